import sys
from typing import Any

import pytest
import torch
from torch import nn

from tests.conftest import MakeFamily
from tests.train.runs import step_records, weights
from tinyllama.errors import TrainingError
from tinyllama.model import Llama
from tinyllama.model.llama import Linear
from tinyllama.recipe import load_recipe
from tinyllama.train.fp8 import use_fp8
from tinyllama.train.ranks import Ranks
from tinyllama.train.trainer import train
from tinyllama.train.training_state import TrainingState

PRECISIONS = ("fp8", "bf16")
WIDE = "model.ffn=176"
"""A size that 16 divides, so that all layers of nano's blocks take fp8."""


def test_fp8_trains_as_bf16_does(make_family: MakeFamily, caplog: pytest.LogCaptureFixture) -> None:
    runs = [make_family(precision, WIDE, f"precision={precision}").training_run("base") for precision in PRECISIONS]
    for run in runs:
        train(run)
    assert "emulated" in caplog.text, "a processor has no such products"
    losses = [[record.loss for record in step_records(run.folder)] for run in runs]
    assert losses[0] != losses[1], "products were rounded further"
    assert losses[0] == pytest.approx(losses[1], abs=0.02)
    assert losses[0][-1] < losses[0][0] - 0.1
    assert weights(runs[0].folder).keys() == weights(runs[1].folder).keys()


def test_only_matrices_of_blocks_whose_sizes_16_divides_multiply_in_fp8() -> None:
    model = Llama(load_recipe("nano", ["model.ffn=172"]).model)
    use_fp8(model, [model.shape.context], torch.device("cpu"))
    taken = {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not isinstance(module, Linear)
    }
    assert {name.rpartition(".")[2] for name in taken} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert len(taken) == 4 * model.shape.layers


@pytest.mark.parametrize(("context", "padded"), [(24, True), (32, False)])
def test_tokens_are_padded_to_the_16_that_gpus_multiply_in_fp8(context: int, *, padded: bool) -> None:
    shape = load_recipe("nano", [WIDE, f"model.context={context}"]).model
    model, plain = Llama(shape), Llama(shape)
    for one in (model, plain):
        one.initialize(0)
    use_fp8(model, [context], torch.device("cpu"))
    changed: Any = model.get_submodule("layers.0.mlp.up_proj")
    assert changed.config.pad_inner_dim is padded
    gradients = []
    for one in (model, plain):
        one(torch.arange(context)[None]).logsumexp(-1).square().sum().backward()
        gradients.append(one.get_parameter("layers.0.mlp.up_proj.weight").grad)
    rounded, exact = gradients
    assert rounded is not None
    assert exact is not None
    assert 0 < (rounded - exact).norm() < 0.2 * exact.norm()


def test_tokens_of_a_stage_with_a_context_of_its_own_are_padded_too() -> None:
    ranks = Ranks()
    for context, padded in ((24, True), (128, False)):
        recipe = load_recipe("nano", [WIDE, "precision=fp8", f"stages.1.context={context}", "hardware.compile=false"])
        state = TrainingState(recipe, ranks, initial=True)
        changed: Any = state.model.get_submodule("layers.0.mlp.up_proj")
        assert changed.config.pad_inner_dim is padded


def test_without_torchao_fp8_is_refused_with_the_remedy(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchao.float8", None)
    with pytest.raises(TrainingError, match=r"pip install .*\[fp8\]"):
        train(make_family("family", "precision=fp8").training_run("base"))
