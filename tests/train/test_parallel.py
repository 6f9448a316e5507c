"""Several ranks train what one process trains."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.train.processes import train_on
from tests.train.runs import deterministic_metrics, weights
from tinyllama.recipe import load_recipe
from tinyllama.train.machine import exclusive
from tinyllama.train.ranks import Ranks
from tinyllama.train.training_state import TrainingState


@pytest.fixture(scope="module")
def alone(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base, trained by one process."""
    folder = tmp_path_factory.mktemp("alone") / "family"
    shutil.copytree(prepared, folder)
    assert train_on(folder, 1, 1) == [0]
    return folder / "base"


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "family")
    return tmp_path / "family"


def _assert_trained_alike(run: Path, alone: Path) -> None:
    """Every step has the same learning rate, counts and tokens, and the same loss but for the order of additions."""
    records, expected = deterministic_metrics(run), deterministic_metrics(alone)
    assert [(r["kind"], r["step"]) for r in records] == [(r["kind"], r["step"]) for r in expected]
    for record, other in zip(records, expected, strict=True):
        if record["kind"] == "step":
            # A row more, less or in the place of another moves the loss of a step of 16 rows by far more.
            assert record.pop("loss") == pytest.approx(other.pop("loss"), rel=2e-6)
            assert record.pop("grad_norm") == pytest.approx(other.pop("grad_norm"), rel=1e-4)
            assert record == other
        else:
            assert record["losses"] == pytest.approx(other["losses"], rel=5e-3)
    left, right = weights(run), weights(alone)
    assert all(torch.allclose(left[name], right[name], atol=1e-3) for name in right)


@pytest.mark.parametrize(
    ("ranks", "per_node", "overrides"),
    [
        (2, 2, []),
        (4, 2, ["hardware.activation_checkpointing=true"]),
        (3, 3, ["hardware.shard=none", "hardware.micro_batch=2"]),
    ],
    ids=["sharded over two", "two nodes of two, checkpointed", "three replicas that do not divide the batch"],
)
def test_ranks_train_what_one_process_trains(
    folder: Path, alone: Path, ranks: int, per_node: int, overrides: list[str]
) -> None:
    expected = [0] * ranks
    assert train_on(folder, ranks, per_node, overrides) == expected, _errors(folder)
    _assert_trained_alike(folder / "base", alone)


def test_muon_orthogonalizes_whole_matrices_of_which_ranks_hold_parts(folder: Path, prepared: Path) -> None:
    other = folder.parent / "other"
    shutil.copytree(prepared, other)
    assert train_on(folder, 1, 1, ["optimizer.kind=muon"]) == [0]
    assert train_on(other, 4, 2, ["optimizer.kind=muon"]) == [0] * 4, _errors(other)
    one, four = ([r["loss"] for r in deterministic_metrics(f / "base") if r["kind"] == "step"] for f in (folder, other))
    assert four == pytest.approx(one, rel=1e-3)


def test_a_run_goes_on_with_other_numbers_of_ranks(folder: Path, alone: Path) -> None:
    for ranks, until in ((1, "2K"), (2, "4K"), (4, "5K"), (1, "6K")):
        assert train_on(folder, ranks, 2 if ranks == 4 else ranks, [f"stages.0.until={until}"]) == [0] * ranks
        newest = max((folder / "base/checkpoints").iterdir(), key=lambda path: int(path.name.split("-")[1]))
        assert json.loads((newest / "state.json").read_text())["ranks"] == ranks
    steps = [[r for r in deterministic_metrics(run) if r["kind"] == "step"] for run in (folder / "base", alone)]
    assert [r["loss"] for r in steps[0]] == pytest.approx([r["loss"] for r in steps[1]], rel=2e-6)
    last = [deterministic_metrics(run)[-1]["losses"] for run in (folder / "base", alone)]
    assert last[0] == pytest.approx(last[1], rel=5e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_mixed_precision_on_two_ranks_ends_within_half_a_percent_of_one(
    precision: str, folder: Path, prepared: Path
) -> None:
    other = folder.parent / "other"
    shutil.copytree(prepared, other)
    assert train_on(folder, 1, 1, [f"precision={precision}"]) == [0]
    assert train_on(other, 2, 1, [f"precision={precision}"]) == [0, 0]
    one, two = (deterministic_metrics(path / "base")[-1]["losses"] for path in (folder, other))
    assert two == pytest.approx(one, rel=5e-3)


def test_ranks_that_would_train_something_else_are_refused_by_name(folder: Path) -> None:
    assert train_on(folder, 2, 2, of_rank={1: "seed=7"}) == [2, 2]
    assert "rank 1 would train with seed = 7, rank 0 with 1" in _errors(folder)
    assert not list((folder / "base").glob("checkpoints/*"))


def test_an_error_of_the_first_rank_ends_all_and_is_told_once(folder: Path) -> None:
    with exclusive(folder / "base"):
        assert train_on(folder, 2, 2) == [2, 2]
    assert _errors(folder).count("another process is training here") == 1


def test_groups_that_do_not_divide_the_ranks_are_refused(folder: Path) -> None:
    assert train_on(folder, 2, 2, ["hardware.shard=3"]) == [2, 2]
    assert "groups of 3 ranks, which do not divide 2" in _errors(folder)


def test_one_process_shares_nothing_whatever_the_groups() -> None:
    recipe = load_recipe("nano", ["hardware.shard=3", "hardware.compile=false"])
    assert not TrainingState(recipe, Ranks()).gathered


def _errors(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.parent.glob(f"{folder.name}-rank*.err")))
