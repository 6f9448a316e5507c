"""Coordinate check of muP (Yang et al. 2022, section 8): how activations change does not depend on the width."""

import math

import pytest
import torch
from torch.nn import functional

from tests.conftest import MakeFamily
from tinyllama.errors import RecipeError
from tinyllama.model import Llama
from tinyllama.recipe import load_recipe
from tinyllama.train.optimizer import apply, build_optimizer

NARROW, STEPS = 64, 4


def _changes(width: int, *keys: str) -> dict[str, float]:
    """Root mean square of what a few steps change, per coordinate, in the last block's output and in the logits."""
    heads = width // 16
    shape = {"width": width, "ffn": 2 * width, "heads": heads, "kv_heads": heads, "layers": 2, "vocab_size": 300}
    recipe = load_recipe("nano", ["tokenizer.train.vocab_size=300", f"model={shape | {'context': 32}}", *keys])
    model = Llama(recipe.model)
    model.initialize(1, recipe.widening)
    optimizer = build_optimizer(recipe.optimizer, dict(model.named_parameters()), recipe.widening)
    tokens = torch.randint(0, 300, (4, 33), generator=torch.Generator().manual_seed(0))
    found: dict[str, torch.Tensor] = {}
    model.layers[-1].register_forward_hook(lambda _module, _inputs, output: found.update(block=output.detach()))

    def forward() -> torch.Tensor:
        logits: torch.Tensor = model(tokens[:, :-1])
        found["logits"] = logits.detach()
        return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    for step in range(STEPS + 1):
        optimizer.zero_grad()
        loss = forward()
        if step == 0:
            first = dict(found)
        if step < STEPS:
            loss.backward()
            apply(optimizer, 0.01)
    return {name: float((found[name] - first[name]).square().mean().sqrt()) for name in found}


def _growth(wide: int, *keys: str) -> dict[str, float]:
    """Exponent of the change's growth with the width."""
    narrow, widened = (_changes(width, *keys) for width in (NARROW, wide))
    return {name: math.log(widened[name] / narrow[name]) / math.log(wide / NARROW) for name in narrow}


@pytest.mark.parametrize(("kind", "wide"), [("adamw", 128), ("adamw", 512), ("muon", 256)])
def test_activations_change_alike_at_every_width_and_more_at_a_larger_one_without_mup(kind: str, wide: int) -> None:
    """The part of the logits that the initial head gives falls with the root of the width, toward the limit."""
    optimizer = f"optimizer.kind={kind}"
    mup = _growth(wide, optimizer, "parametrization=mup", f"base_width={NARROW}")
    assert all(-0.25 < exponent < 0.1 for exponent in mup.values()), mup
    plain = _growth(wide, optimizer)
    assert all(exponent > 0.2 for exponent in plain.values()), plain


def test_the_base_width_is_the_standard_parametrization_bit_for_bit() -> None:
    assert _changes(64) == _changes(64, "parametrization=mup", "base_width=64")


def test_learning_rate_times_decay_does_not_depend_on_the_width() -> None:
    for kind in ("adamw", "muon"):
        optimizer = load_recipe("nano", [f"optimizer.kind={kind}"]).optimizer
        for name in ("embed_tokens.weight", "lm_head.weight", "norm.weight", "layers.0.mlp.up_proj.weight"):
            factor, decay = optimizer.group(name, 4.0)
            assert factor * decay == optimizer.weight_decay, name
    assert load_recipe("nano", ["parametrization=mup", "base_width=16"]).describe_optimizer().endswith("(x4)")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["parametrization=mup", "model.tied_embeddings=true"], "parametrization: mup scales head and embeddings"),
        (["base_width=128"], "base_width: has an effect only with parametrization: mup"),
    ],
)
def test_what_mup_cannot_do_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("nano", overrides)


def test_a_trained_model_is_a_plain_llama_that_passes_the_gate_of_its_export(make_family: MakeFamily) -> None:
    family = make_family("wide", "parametrization=mup", "base_width=16")
    family.train("base")
    folder = family.export()["base"]
    assert "mup" not in (folder / "config.json").read_text(encoding="utf-8")
