"""Losses that no change may shift by accident; golden.py says how they are renewed."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.train.golden import CASES, PINNED, losses, prepare
from tinyllama.model import Llama
from tinyllama.recipe import load_recipe
from tinyllama.train.optimizer import apply, build_optimizer

TOLERANCE = {"fp32 adamw": 1e-6, "fp32 muon": 1e-4, "bf16 adamw": 1e-3, "bf16 muon": 1e-3}
"""Relative. Muon multiplies in bf16 whatever the precision: AVX2 in place of AVX-512 changes `fp32 muon` by 2e-5."""


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden") / "prepared"
    prepare(folder)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_the_losses_of_pinned_steps_stay_what_they_are(golden: Path, tmp_path: Path, case: str) -> None:
    pinned, found = json.loads(PINNED.read_text(encoding="utf-8"))[case], losses(golden, tmp_path / "family", case)
    assert len(pinned["losses"]) == 14
    for key in ("losses", "held_out"):
        assert found[key] == pytest.approx(pinned[key], rel=TOLERANCE[case], abs=0), f"{case} {key}; see golden.py"


def test_adamw_steps_as_pytorchs_plain_one_does() -> None:
    recipe = load_recipe("nano")
    model = Llama(recipe.model)
    model.initialize(0)
    masters = dict(model.named_parameters())
    others = [nn.Parameter(weight.detach().clone()) for weight in masters.values()]
    settings = recipe.optimizer
    plain = torch.optim.AdamW(
        others, lr=0.0, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay, foreach=False,
        fused=False,
    )  # fmt: skip
    ours = build_optimizer(settings, masters)
    generator = torch.Generator().manual_seed(0)
    for step in range(5):
        rate = 0.01 / (step + 1)
        for weight, other in zip(masters.values(), others, strict=True):
            weight.grad = torch.randn(weight.shape, generator=generator)
            other.grad = weight.grad.clone()
        apply(ours, rate)
        for group in plain.param_groups:
            group["lr"] = rate
        plain.step()
    for (name, weight), other in zip(masters.items(), others, strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-6, atol=1e-8, msg=name)
