import signal

import pytest
import torch
from torch import nn

from tests.conftest import MakeFamily
from tests.train.runs import assert_same_run, step_records
from tests.train.stopping import StopAt
from tinyllama.checkpoint.format import stored_sizes, verify
from tinyllama.errors import CheckpointError, Interrupted
from tinyllama.model import Llama
from tinyllama.plan.hardware import checkpoint_bytes
from tinyllama.recipe import Optimizer, load_recipe
from tinyllama.train.optimizer import apply, build_optimizer, clip, gradient_norm, set_step
from tinyllama.train.trainer import train

MUON = "optimizer.kind=muon"


@pytest.mark.parametrize("batch", [1 << 24, 1], ids=["all of a size at once", "one by one"])
def test_muon_updates_matrices_of_blocks_as_pytorchs_muon_and_the_rest_as_adamw(
    batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinyllama.train.optimizer._BATCH", batch)
    recipe = load_recipe("nano", [MUON])
    model = Llama(recipe.model)
    model.initialize(0)
    masters = dict(model.named_parameters())
    others = {name: nn.Parameter(weight.detach().clone()) for name, weight in masters.items()}
    matrices = [name for name in masters if name.startswith("layers.") and "norm" not in name]
    kept = {"lr": 0.01, "weight_decay": recipe.optimizer.weight_decay}
    muon = torch.optim.Muon([others[name] for name in matrices], momentum=0.95, adjust_lr_fn="match_rms_adamw", **kept)
    rest = [weight for name, weight in others.items() if name not in matrices]
    adamw = torch.optim.AdamW(rest, betas=recipe.optimizer.betas, eps=recipe.optimizer.eps, fused=True, **kept)
    optimizer = build_optimizer(recipe.optimizer, masters)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for name, weight in masters.items():
            weight.grad = torch.randn(weight.shape, generator=generator)
            others[name].grad = weight.grad.clone()
        apply(optimizer, 0.01)
        muon.step()
        adamw.step()
    for name, weight in masters.items():
        # Products of several matrices at once may be added up in another order, in bf16.
        assert torch.allclose(weight, others[name], rtol=0, atol=1e-3 if name in matrices else 0), name


GROUPS = [
    "optimizer.weight_decay_of=matrices",
    "optimizer.learning_rate_factors={embeddings: 0.5, head: 2, matrices: 3}",
]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_each_group_has_its_own_learning_rate_and_decay(kind: str) -> None:
    """A gradient of zero leaves the decay alone; without decay, an update is proportional to its learning rate."""
    recipe, plain = (load_recipe("nano", [f"optimizer.kind={kind}", *keys]) for keys in (GROUPS, []))
    model = Llama(recipe.model)
    kinds = {"embed_tokens.weight": (0.5, 0), "lm_head.weight": (2, 1), "norm.weight": (1, 0)}

    def updated(optimizer: Optimizer, size: float) -> dict[str, torch.Tensor]:
        model.initialize(0)
        generator = torch.Generator().manual_seed(1)
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        for weight in model.parameters():
            weight.grad = size * torch.randn(weight.shape, generator=generator)
        apply(build_optimizer(optimizer, dict(model.named_parameters())), 0.01)
        return {name: weight.detach() - before[name] for name, weight in model.named_parameters()}

    without = (settings.optimizer.model_copy(update={"weight_decay": 0.0}) for settings in (recipe, plain))
    steps, plain_steps = (updated(settings, 1.0) for settings in without)
    decays, plain_decays = (updated(settings.optimizer, 0.0) for settings in (recipe, plain))
    for name in steps:
        factor, decayed = kinds["norm.weight"] if "norm" in name else kinds.get(name, (3, 1))
        torch.testing.assert_close(steps[name], factor * plain_steps[name], rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(decays[name], factor * decayed * plain_decays[name], rtol=1e-3, atol=1e-6)


def test_groups_of_one_learning_rate_and_decay_are_one() -> None:
    recipe = load_recipe("nano")
    assert len(build_optimizer(recipe.optimizer, dict(Llama(recipe.model).named_parameters())).param_groups) == 1


def test_an_optimizer_without_bias_correction_has_no_step_to_set() -> None:
    recipe = load_recipe("nano", [MUON])
    optimizer = build_optimizer(recipe.optimizer, dict(Llama(recipe.model).named_parameters()))
    set_step(optimizer, 7)
    steps = [float(state["step"]) for state in optimizer.state.values() if "step" in state]
    assert set(steps) == {7.0}
    assert len(steps) < len(optimizer.state)


def test_a_stopped_and_resumed_run_with_muon_equals_one_that_never_stopped(make_family: MakeFamily) -> None:
    whole, pieces = make_family("whole", MUON), make_family("pieces", MUON)
    whole.train("base")
    for step in (2, 5):
        run = pieces.training_run("base")
        run.watch.append(StopAt(step, signal.SIGTERM))
        with pytest.raises(Interrupted):
            train(run)
    pieces.train("base")
    assert_same_run(whole.folder / "base", pieces.folder / "base")
    losses = [record.loss for record in step_records(whole.folder / "base")]
    assert losses[-1] < losses[0]


def test_a_checkpoint_holds_the_moments_of_its_optimizer_and_another_kind_is_refused(make_family: MakeFamily) -> None:
    family = make_family("family", MUON)
    family.train("base")
    newest = max((family.folder / "base" / "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:]))
    kinds = {name.split(".")[0] for name in stored_sizes(verify(newest))}
    assert kinds == {"model", "momentum_buffer", "exp_avg", "exp_avg_sq"}
    with pytest.raises(CheckpointError, match=r"optimizer\.kind"):
        make_family("family", "stages.0.until=7K", "stages.1.until=13K").train("base")


@pytest.mark.parametrize("size", [0.1, 10.0])
def test_gradients_are_clipped_as_torch_does(size: float) -> None:
    ours, theirs = ([nn.Parameter(torch.zeros(shape)) for shape in ((3, 5), (7,))] for _ in range(2))
    for one, other in zip(ours, theirs, strict=True):
        one.grad = size * torch.rand(one.shape)
        other.grad = one.grad.clone()
    norm = gradient_norm(ours)
    clip(ours, 1.0, norm, float(norm))
    assert float(norm) == float(torch.nn.utils.clip_grad_norm_(theirs, 1.0))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_the_disk_check_asks_for_what_a_checkpoint_of_this_optimizer_takes(make_family: MakeFamily, kind: str) -> None:
    family = make_family("family", f"optimizer.kind={kind}", "model.width=256", "model.ffn=512")
    family.train("base")
    folder = max((family.folder / "base/checkpoints").glob("step-*"), key=lambda path: int(path.name[5:]))
    expected = checkpoint_bytes(family.recipe)
    assert expected <= sum(path.stat().st_size for path in folder.glob("*.distcp")) < 1.05 * expected
