from __future__ import annotations

import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tinyllama.corpus.manifest import Separator
from tinyllama.model import KeyValueCache, Llama, document_mask
from tinyllama.recipe import ModelShape, load_recipe

SMALL = ModelShape(layers=3, width=64, ffn=176, heads=8, kv_heads=2, context=96, vocab_size=256)
SHAPES = {
    "grouped-query": SMALL,
    "multi-head": SMALL.model_copy(update={"kv_heads": 8}),
    "multi-query": SMALL.model_copy(update={"kv_heads": 1}),
    "tied": SMALL.model_copy(update={"tied_embeddings": True}),
    "other theta and eps": SMALL.model_copy(update={"rope_theta": 500000.0, "norm_eps": 1e-3}),
    "one wide head": SMALL.model_copy(update={"layers": 1, "heads": 1, "kv_heads": 1, "width": 128}),
}


def model_of(shape: ModelShape, seed: int = 0) -> Llama:
    model = Llama(shape)
    model.initialize(seed)
    return model


def random_tokens(shape: ModelShape, rows: int, length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(shape.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


def transformers_twin(model: Llama) -> LlamaForCausalLM:
    shape = model.shape
    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.width,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.context,
        rms_norm_eps=shape.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=shape.tied_embeddings,
    )
    twin = LlamaForCausalLM(config).eval()
    names = {name if name.startswith("lm_head") else f"model.{name}": w for name, w in model.state_dict().items()}
    twin.load_state_dict(names)
    return twin


@pytest.mark.parametrize("kind", SHAPES)
@torch.no_grad()
def test_logits_equal_transformers_llama(kind: str) -> None:
    model = model_of(SHAPES[kind])
    for weight in model.parameters():  # norms of 1 and small weights would hide mistakes
        weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)), alpha=0.05)
    tokens = random_tokens(model.shape, rows=3, length=model.shape.context)
    torch.testing.assert_close(model(tokens), transformers_twin(model)(tokens).logits, rtol=0, atol=1e-5)


def test_the_flagship_has_1_100_048_384_parameters() -> None:
    shape = load_recipe("tinyllama-v1.1").model
    with torch.device("meta"):
        model = Llama(shape)
    assert sum(weight.numel() for weight in model.parameters()) == 1_100_048_384
    assert shape.parameters == 1_100_048_384


@pytest.mark.parametrize("kind", SHAPES)
def test_the_shape_counts_the_parameters_of_the_model(kind: str) -> None:
    shape = SHAPES[kind]
    assert shape.parameters == sum(weight.numel() for weight in Llama(shape).parameters())


def test_initial_weights_have_the_stated_deviations() -> None:
    model = model_of(SMALL.model_copy(update={"width": 256, "ffn": 512, "layers": 4}))
    wide, narrow = math.sqrt(2 / (5 * 256)), 1 / (math.sqrt(256) * 4)
    for name, weight in model.named_parameters():
        if "norm" in name:
            assert bool((weight == 1).all()), name
            continue
        expected = narrow if "o_proj" in name or "down_proj" in name else wide
        # Five standard errors of an estimated deviation, and of a mean.
        assert weight.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * weight.numel())), name
        assert abs(weight.mean().item()) < 5 * expected / math.sqrt(weight.numel()), name


def test_initial_weights_depend_on_the_seed_alone() -> None:
    one, same, other = model_of(SMALL, 1), model_of(SMALL, 1), model_of(SMALL, 2)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, same.state_dict()[name])
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)


@pytest.mark.parametrize("kind", ["grouped-query", "multi-query", "tied"])
@pytest.mark.parametrize("pieces", [[40], [1] * 40, [17, 1, 1, 20, 1], [1, 39]])
@torch.no_grad()
def test_a_cache_gives_the_logits_of_a_full_pass(kind: str, pieces: list[int]) -> None:
    model = model_of(SHAPES[kind])
    tokens = random_tokens(model.shape, rows=2, length=40)
    cache = KeyValueCache(model.shape.layers)
    parts = [model(piece, cache=cache) for piece in tokens.split(pieces, dim=1)]
    assert cache.length == 40
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), rtol=0, atol=1e-5)


@pytest.mark.parametrize("capacity", [0, 7, 100])
@torch.no_grad()
def test_a_cache_repeated_goes_on_from_its_text_in_several_ways(capacity: int) -> None:
    model = model_of(SMALL)
    begun, ends = random_tokens(SMALL, rows=1, length=5), random_tokens(SMALL, rows=3, length=4)
    cache = KeyValueCache(SMALL.layers, capacity)
    model(begun, cache=cache)
    cache.repeat(3)
    whole = model(torch.cat([begun.expand(3, -1), ends], dim=1))[:, 5:]
    torch.testing.assert_close(model(ends, cache=cache), whole, rtol=0, atol=1e-5)


@torch.no_grad()
def test_later_tokens_do_not_change_earlier_logits() -> None:
    model, tokens = model_of(SMALL), random_tokens(SMALL, rows=1, length=30)
    changed = tokens.clone()
    changed[:, 20:] = (changed[:, 20:] + 1) % SMALL.vocab_size
    torch.testing.assert_close(model(changed)[:, :20], model(tokens)[:, :20], rtol=0, atol=1e-6)
    assert not torch.allclose(model(changed)[:, 20:], model(tokens)[:, 20:])


BOS, EOS = 0, 2


def two_documents() -> torch.Tensor:
    """BOS + 11 tokens, BOS + 17 tokens: [1, 30]."""
    tokens = random_tokens(SMALL, rows=1, length=30).clamp(min=BOS + 1)
    tokens[0, [0, 12]] = BOS
    return tokens


@torch.no_grad()
def test_document_mask_keeps_documents_apart() -> None:
    model, tokens = model_of(SMALL), two_documents()
    changed = tokens.clone()
    changed[0, 1:12] = changed[0, 1:12] % (SMALL.vocab_size - 1) + 1
    masked, masked_changed = (model(t, document_mask(t, Separator(BOS, ends=False))) for t in (tokens, changed))
    assert torch.equal(masked[:, 12:], masked_changed[:, 12:])
    assert not torch.allclose(masked[:, 1:12], masked_changed[:, 1:12])
    assert not torch.allclose(model(tokens)[:, 12:], model(changed)[:, 12:])


def test_document_mask_looks_back_to_the_bos_and_no_further() -> None:
    mask = document_mask(torch.tensor([[5, 6, BOS, 7, 8], [BOS, 1, 2, 3, BOS]]), Separator(BOS, ends=False))
    assert mask.shape == (2, 1, 5, 5)
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 1, 1, 1],
    ]
    assert mask[1, 0].sum(1).tolist() == [1, 2, 3, 4, 1]


def test_document_mask_begins_anew_after_the_eos_where_documents_have_no_bos() -> None:
    mask = document_mask(torch.tensor([[5, 6, EOS, 7, 8]]), Separator(EOS, ends=True))
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]
