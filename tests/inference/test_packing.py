from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from tests.inference.test_decode import GREEDY, SHAPE, continued, prompt_of, random_model
from tinyllama.inference import pack
from tinyllama.inference.packing import PackedLinear

if TYPE_CHECKING:
    from tinyllama.model import Llama

WIDE = SHAPE.model_copy(update={"width": 512, "ffn": 1024, "heads": 8, "vocab_size": 1000})


def packed_layers(model: Llama) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, PackedLinear)]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.15)])
@torch.no_grad()
def test_a_packed_model_computes_the_same(dtype: torch.dtype, tolerance: float, *, tied: bool) -> None:
    model = random_model(0, WIDE.model_copy(update={"tied_embeddings": tied})).to(dtype)
    tokens = torch.randint(WIDE.vocab_size, (2, 11), generator=torch.Generator().manual_seed(0))
    before = [model(tokens[:, :length]).float() for length in (1, 3, 11)]
    embedding = model.embed_tokens.weight.clone()
    pack(model)
    assert "lm_head" in packed_layers(model)
    assert len(packed_layers(model)) == 1 + 5 * WIDE.layers  # keys and values are small
    for logits, length in zip(before, (1, 3, 11), strict=True):
        scale = logits.abs().max()
        assert (model(tokens[:, :length]).float() - logits).abs().max() <= tolerance * scale
    assert torch.equal(model.embed_tokens.weight, embedding)


def test_a_packed_model_gives_up_the_weights_that_it_packed() -> None:
    model = random_model(0, WIDE)
    pack(model)
    held = sum(weight.numel() for weight in model.parameters())
    small = WIDE.layers * 2 * WIDE.kv_heads * WIDE.head_size * WIDE.width
    assert held == WIDE.vocab_size * WIDE.width + small + (2 * WIDE.layers + 1) * WIDE.width


def test_greedy_texts_of_a_packed_model_are_the_same() -> None:
    model, prompt = random_model(0, WIDE), prompt_of(9)
    plain = continued(model, prompt, GREEDY)
    pack(model)
    assert continued(model, prompt, GREEDY) == plain


def test_a_model_in_a_type_that_cannot_be_packed_stays_as_it_is() -> None:
    model = random_model(0, WIDE).half()
    pack(model)
    assert packed_layers(model) == []
