from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from tinyllama.model import Llama, attention
from tinyllama.model.attention import SHORT, attend
from tinyllama.recipe import ModelShape


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("length", [1, 5, 64])
def test_plain_products_equal_torchs_attention_and_its_gradients(heads: int, kv_heads: int, length: int) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(2, length, n, 8, dtype=torch.float64).transpose(1, 2) for n in (heads, kv_heads, kv_heads)]
    toward = torch.randn(2, heads, length, 8, dtype=torch.float64)

    def theirs(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)

    def ours(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return attend(query, key, value, None)

    def run(attention: Callable[[Tensor, Tensor, Tensor], Tensor]) -> list[Tensor]:
        query, key, value = (part.clone().requires_grad_() for part in parts)
        mixed = attention(query, key, value)
        return [mixed, *torch.autograd.grad(mixed, (query, key, value), toward)]

    for one, other in zip(run(ours), run(theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # 2.14's opcheck reads it
@pytest.mark.parametrize("length", [3, 16])
def test_the_compiler_is_told_true_shapes_and_layouts(length: int) -> None:
    query, key, value = (torch.randn(2, heads, length, 8, requires_grad=True) for heads in (4, 2, 2))
    torch.library.opcheck(torch.ops.tinyllama.attend_in_blocks.default, (query, key, value, 4))


def test_training_and_inference_give_the_same_logits_on_both_sides_of_the_limit() -> None:
    model = Llama(ModelShape(layers=2, width=16, ffn=32, heads=2, kv_heads=1, context=SHORT + 1, vocab_size=50))
    model.initialize(0)
    for length in (SHORT, SHORT + 1):
        tokens = torch.randint(0, 50, (1, length))
        trained = model(tokens)
        with torch.no_grad():
            torch.testing.assert_close(trained, model(tokens), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "masked", "repeated"),
    [
        (torch.bfloat16, False, []),
        (torch.bfloat16, True, [4, 4]),
        (torch.float16, False, [4, 4]),
        (torch.float32, False, [4, 4]),
    ],
)
def test_on_cuda_keys_are_repeated_where_only_the_kernel_that_holds_all_scores_would_share_them(
    dtype: torch.dtype, *, masked: bool, repeated: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """GPUs before Ampere, which train in fp16, have no FlashAttention, and the other kernel knows no groups."""
    seen = list[int]()

    def per_head(shared: Tensor, heads: int) -> Tensor:
        seen.append(heads)
        return shared

    monkeypatch.setattr(attention, "per_head", per_head)
    monkeypatch.setattr(functional, "scaled_dot_product_attention", lambda query, *_, **__: query)
    with FakeTensorMode():
        query, key, value = (torch.empty(1, heads, 16, 8, dtype=dtype, device="cuda") for heads in (4, 2, 2))
        attend(query, key, value, torch.empty(1, 1, 16, 16, dtype=torch.bool, device="cuda") if masked else None)
    assert seen == repeated
