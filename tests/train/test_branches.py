"""Branches that fork from any model at any step: kept or replayed, they train on the parent's path, bit for bit."""

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.train.processes import train_on
from tests.train.runs import assert_same_run, deterministic_metrics, weights
from tests.train.stopping import stop_at
from tinyllama.checkpoint.format import steps_saved
from tinyllama.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeFamily

OWN = "{prose: 50%, code: 50%}"
EARLY = f"{{from: base@3.5K, shares: {OWN}, stages: [{{name: own, until: 9K, batch: 16 sequences}}]}}"
CHILD = "{from: early@7K, stages: [{name: more, until: 10K, batch: 8 sequences}]}"
TREE = (f"branches={{child: {CHILD}, early: {EARLY}}}",)


def _steps(run: "Path") -> list[int]:
    return [record["step"] for record in deterministic_metrics(run) if record["kind"] == "step"]


def test_a_branch_trains_on_its_parents_path_from_the_first_step_that_reaches_its_tokens(
    make_family: "MakeFamily",
) -> None:
    family = make_family("family", *TREE)
    trained = family.train("child")
    assert list(trained) == ["base", "early", "child"]
    assert steps_saved(family.folder / "base/checkpoints") == [4, 6]  # of 1,024 tokens each
    assert _steps(family.folder / "early") == [5, 6, 7, 8, 9]
    assert _steps(family.folder / "child")[0] == 8
    assert trained["early"].state.fingerprint_inputs.root["variants.early"] == {"code": "1/2", "prose": "1/2"}
    # A base with the same path is the same model.
    change = f"{{name: own, until: 9K, batch: 16 sequences, shares: {{base: {OWN}}}}}"
    tail = "{name: end, until: 20K, batch: 64 sequences, fork: true}"
    straight = make_family("straight", f"stages=[{{name: base, until: 3.5K, batch: 16 sequences}}, {change}, {tail}]")
    straight.train("base")
    mine, other = weights(family.folder / "early"), weights(straight.folder / "base")
    assert all((mine[name] == other[name]).all() for name in other)


def test_a_branch_added_later_trains_alone_from_a_replay_that_equals_a_kept_checkpoint(
    make_family: "MakeFamily",
) -> None:
    planned, added = make_family("planned", *TREE), make_family("added")
    planned.train("child")
    added.train("base", "v1.1")
    before = {path: path.stat().st_mtime_ns for path in added.folder.rglob("*") if path.is_file()}
    again = make_family("added", *TREE)
    again.train("child")
    changed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed <= {"recipe.yaml", "seconds.json", ".lock"}
    for name in ("early", "child"):
        assert_same_run(planned.folder / name, again.folder / name)
    kept, replayed = (family.folder / "base/checkpoints/step-4" for family in (planned, again))
    files = sorted(path.name for path in kept.iterdir() if path.suffix in {".distcp", ".safetensors"})
    assert files
    assert all((kept / name).read_bytes() == (replayed / name).read_bytes() for name in files)
    assert steps_saved(again.folder / "base/checkpoints") == [4, 6]
    again.train()
    assert _steps(again.folder / "base") == [1, 2, 3, 4, 5, 6]


def test_a_branch_resumes_and_its_fork_resumes_on_two_ranks(make_family: "MakeFamily") -> None:
    straight = make_family("straight", *TREE, "precision=fp32")
    straight.train("child")
    family = make_family("family", *TREE, "precision=fp32")
    family.train("base")
    stop_at(family, "early", 6)
    shutil.copytree(family.folder, family.folder.parent / "ranks")
    family.train("child")
    for name in ("early", "child"):
        assert_same_run(straight.folder / name, family.folder / name)
    assert train_on(family.folder.parent / "ranks", 2, 2, TREE, "child") == [0, 0]
    one, two = (deterministic_metrics(folder / "child") for folder in (family.folder, family.folder.parent / "ranks"))
    assert [(r["step"], r["tokens"], r.get("counts")) for r in one] == [
        (r["step"], r["tokens"], r.get("counts")) for r in two
    ]


def test_a_branch_that_has_begun_refuses_another_fork(make_family: "MakeFamily") -> None:
    family = make_family("family", *TREE)
    family.train("early")
    moved = make_family("family", TREE[0].replace("base@3.5K", "base@4.5K"))
    with pytest.raises(CheckpointError, match=r"stages\.0\.until = 3500, the recipe now says 4500"):
        moved.train("early")
