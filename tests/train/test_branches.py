"""Branches that fork from any model at any step: kept or replayed, they train on the parent's path, bit for bit."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.train.processes import EXACT, train_on
from tests.train.runs import assert_same_run, deterministic_metrics, weights
from tests.train.stopping import stop_at
from tinyllama.checkpoint.format import steps_saved
from tinyllama.errors import CheckpointError
from tinyllama.family import Family
from tinyllama.recipe import load_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeFamily

OWN = "{prose: 50%, code: 50%}"
EARLY = f"{{from: base@3.5K, shares: {OWN}, stages: [{{name: own, until: 9K, batch: 16 sequences}}]}}"
CHILD = "{from: early@7K, stages: [{name: more, until: 10K, batch: 8 sequences}]}"
TREE = (f"branches={{child: {CHILD}, early: {EARLY}}}",)


def _steps(run: Path) -> list[int]:
    return [record["step"] for record in deterministic_metrics(run) if record["kind"] == "step"]


@pytest.fixture(scope="module")
def grown(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a branch of it and a branch of that, trained without a stop."""
    folder = tmp_path_factory.mktemp("tree") / "grown"
    shutil.copytree(prepared, folder)
    trained = Family(load_recipe("nano", [*EXACT, *TREE]), folder).train("child")
    assert list(trained) == ["base", "early", "child"]
    return folder


def test_a_branch_trains_on_its_parents_path_from_the_first_step_that_reaches_its_tokens(
    grown: Path, make_family: MakeFamily
) -> None:
    assert steps_saved(grown / "base/checkpoints") == [4, 6]  # of 1,024 tokens each
    assert _steps(grown / "early") == [5, 6, 7, 8, 9]
    assert _steps(grown / "child")[0] == 8
    # A base with the same path is the same model.
    change = f"{{name: own, until: 9K, batch: 16 sequences, shares: {{base: {OWN}}}}}"
    tail = "{name: end, until: 20K, batch: 64 sequences, fork: true}"
    stages = f"stages=[{{name: base, until: 3.5K, batch: 16 sequences}}, {change}, {tail}]"
    straight = make_family("straight", stages, "precision=fp32")
    straight.train("base")
    mine, other = weights(grown / "early"), weights(straight.folder / "base")
    assert all((mine[name] == other[name]).all() for name in other)


def test_a_branch_resumes_bit_for_bit_and_trains_the_same_rows_on_two_ranks(grown: Path, tmp_path: Path) -> None:
    shutil.copytree(grown, tmp_path / "one", ignore=shutil.ignore_patterns("early", "child"))
    family = Family(load_recipe("nano", [*EXACT, *TREE]), tmp_path / "one")
    stop_at(family, "early", 6)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    family.train("child")
    for name in ("early", "child"):
        assert_same_run(grown / name, family.folder / name)
    assert train_on(tmp_path / "two", 2, 2, TREE, "child") == [0, 0]
    for name in ("early", "child"):
        one, two = (deterministic_metrics(folder / name) for folder in (grown, tmp_path / "two"))
        rows = [[(r["step"], r["tokens"], r.get("lr"), r.get("digest")) for r in records] for records in (one, two)]
        assert rows[0] == rows[1]
        assert two[-1]["losses"] == pytest.approx(one[-1]["losses"], rel=5e-3)


def test_a_branch_that_has_begun_refuses_another_fork(grown: Path) -> None:
    moved = load_recipe("nano", [*EXACT, TREE[0].replace("base@3.5K", "base@4.5K")])
    with pytest.raises(CheckpointError, match=r"stages\.0\.until = 3500, the recipe now says 4500"):
        Family(moved, grown).train("early")


def test_a_branch_added_later_trains_alone_from_a_replay_that_equals_a_kept_checkpoint(
    make_family: MakeFamily,
) -> None:
    later = (TREE[0].replace("base@3.5K", "base@4.5K"), "checkpoints.permanent=2K")
    planned, added = make_family("planned", *later), make_family("added", later[1])
    planned.train("child")
    added.train("base", "v1.1")
    before = {path: path.stat().st_mtime_ns for path in added.folder.rglob("*") if path.is_file()}
    again = make_family("added", *later)
    assert steps_saved(again.folder / "base/checkpoints") == [2, 4, 6]
    assert again.work.replay("early") == range(4, 5)
    again.train("child")
    assert again.work.replay("early") is None
    changed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed <= {"recipe.yaml", "seconds.json", "process.json", ".lock"}
    for name in ("early", "child"):
        assert_same_run(planned.folder / name, again.folder / name)
    kept, replayed = (family.folder / "base/checkpoints/step-5" for family in (planned, again))
    files = sorted(path.name for path in kept.iterdir() if path.suffix == ".distcp")
    assert files
    assert all((kept / name).read_bytes() == (replayed / name).read_bytes() for name in files)
    assert steps_saved(again.folder / "base/checkpoints") == [2, 4, 5, 6]
    assert _steps(again.folder / "base") == [1, 2, 3, 4, 5, 6]
