"""Documents as segments mean what they mean as a mask."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tinyllama.corpus.manifest import Separator
from tinyllama.corpus.rows import IGNORED
from tinyllama.model import Llama, document_mask
from tinyllama.model.attention import attend
from tinyllama.model.documents import Documents, document_bounds, without_segments
from tinyllama.recipe import ModelShape
from tinyllama.train.feeder import StepBatch
from tinyllama.train.forward_backward import Gradients

MARK = 1
SHAPE = ModelShape(layers=2, width=32, ffn=64, heads=4, kv_heads=2, context=24, vocab_size=40)


def segment_by_segment(query: Tensor, key: Tensor, value: Tensor, *segments: Any, **how: Any) -> Tensor:  # noqa: ANN401
    """What `varlen_attn` computes with the arguments that we give it: [B x T, H, C]."""
    bounds, same, longest, also = segments
    assert bounds is same
    assert bounds.dtype == torch.int32
    assert how == {"window_size": (-1, 0), "enable_gqa": True}, "causal within segments"
    ends = bounds.tolist()
    assert max(end - start for start, end in pairwise(ends)) <= longest == also
    mixed = []
    for start, end in pairwise(ends):
        if start < end:
            rows = (part[start:end].transpose(0, 1) for part in (query, key, value))
            mixed.append(functional.scaled_dot_product_attention(*rows, is_causal=True, enable_gqa=True))
    return torch.cat(mixed, 1).transpose(0, 1)


@given(data=st.data(), ends=st.booleans(), per_pass=st.integers(1, 4))
@settings(max_examples=150)
def test_segments_of_any_layout_are_the_documents_of_the_mask(data: st.DataObject, ends: bool, per_pass: int) -> None:  # noqa: FBT001
    rows, length = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 80))
    ids = st.lists(st.integers(0, data.draw(st.sampled_from([1, 3, 30]))), min_size=length, max_size=length)
    tokens = torch.tensor(data.draw(st.lists(ids, min_size=rows, max_size=rows)))
    separator = Separator(MARK, ends=ends)
    for bounds, part in zip(document_bounds(tokens, separator, per_pass), tokens.split(per_pass), strict=True):
        starts = bounds[:-1].tolist()
        segment = torch.zeros(part.numel(), dtype=torch.long)
        for number, (start, end) in enumerate(zip(starts, bounds[1:].tolist(), strict=True)):
            segment[start:end] = number
        looks = (segment[:, None] == segment).tril()
        assert torch.equal(looks, torch.block_diag(*document_mask(part, separator)[:, 0]).bool())
        assert bounds[-1] == part.numel()
        assert len(bounds) % 64 == 0


def test_the_number_of_bounds_takes_few_values_and_is_little_more_than_needed() -> None:
    sizes, separator = set(), Separator(MARK, ends=False)
    for count in range(1, 2000, 7):
        tokens = torch.zeros(1, 2048, dtype=torch.long)
        tokens[0, :count] = MARK
        (size,) = document_bounds(tokens, separator, 1).shape[1:]
        assert count + 1 <= size <= max(count + 64, 1.25 * (count + 1) + 1)
        sizes.add(size)
    assert len(sizes) <= 16
    assert len([size for size in sizes if 500 < size <= 1024]) <= 5


def test_a_step_in_segments_has_the_gradients_of_one_with_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", segment_by_segment)
    tokens = torch.randint(0, 6, (5, 24), generator=torch.Generator().manual_seed(0))
    targets = tokens.roll(-1, 1)
    targets[:, -1] = IGNORED
    batch = StepBatch(0, None, tokens, targets, 5 * 23)  # type: ignore[arg-type]

    def gradients(*, segments: bool) -> list[Tensor]:
        model = Llama(SHAPE)
        model.initialize(0)
        documents = Documents(Separator(MARK, ends=False), segments=segments)
        Gradients(model, micro_batch=2, documents=documents, compiled=False)(batch)
        return [weight.grad for weight in model.parameters() if weight.grad is not None]

    for one, other in zip(gradients(segments=True), gradients(segments=False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_compiler_makes_one_program_for_layouts_with_as_many_bounds() -> None:
    programs = list[object]()

    def backend(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> torch.fx.GraphModule:
        programs.append(graph)
        return graph

    compiled = torch.compile(attend, fullgraph=True, dynamic=False, backend=backend)
    query, key = (torch.empty(2, heads, 128, 8, device="meta", dtype=torch.bfloat16) for heads in (4, 2))
    for marks in ([5], [1, 2, 70, 90], []):
        tokens = torch.zeros(2, 128, dtype=torch.long)
        tokens[1, marks] = MARK
        (bounds,) = document_bounds(tokens, Separator(MARK, ends=False), 2)
        assert compiled(query, key, key, bounds.to("meta")).shape == query.shape
    assert len(programs) == 1


@pytest.mark.parametrize(
    ("device", "capability", "dtype", "head", "reason"),
    [
        ("cuda", (8, 0), torch.bfloat16, 64, None),
        ("cuda", (9, 0), torch.float16, 256, None),
        ("cuda", (7, 5), torch.float16, 64, "before Ampere"),
        ("cuda", (9, 0), torch.float32, 64, "no fp32"),
        ("cuda", (9, 0), torch.bfloat16, 20, "no heads of 20"),
        ("cuda", (9, 0), torch.bfloat16, 320, "no heads of 320"),
        ("cuda", (9, 0), torch.bfloat16, 224, None),
        ("cuda", (8, 9), torch.bfloat16, 224, "no heads of 224 on this GPU"),
        ("cuda", (8, 9), torch.bfloat16, 192, None),
        ("cuda", (8, 6), torch.bfloat16, 256, None),
        ("mps", (0, 0), torch.bfloat16, 64, "mps has no kernel"),
        ("xpu", (0, 0), torch.bfloat16, 64, "xpu has no kernel"),
        ("cpu", (0, 0), torch.bfloat16, 64, "cpu has no kernel"),
    ],
)
def test_a_device_without_the_kernel_takes_masks_and_the_reason_has_its_name(  # noqa: PLR0913, PLR0917
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    capability: tuple[int, int],
    dtype: torch.dtype,
    head: int,
    reason: str | None,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    found = without_segments(torch.device(device), dtype, head)
    assert (found is None) == (reason is None)
    assert reason is None or found is not None
    assert (reason or "") in (found or "")
