"""How far a model is trained, and which steps changed no weights: from runs that skip and undo steps."""

import json
import math
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.conftest import SMALL, MakeFamily
from tests.fidelity.conftest import MODEL
from tests.train.stopping import stop_at
from tests.train.test_spikes import ROLLBACK, SKIP, poison_steps
from tinyllama.cli.commands import app
from tinyllama.family import Family
from tinyllama.fidelity import OpenRun, audit, open_runs, rows_of_steps
from tinyllama.fidelity.trained import trained_steps
from tinyllama.recipe import dump_recipe, load_recipe
from tinyllama.train.precision import LossScaler


def opened(family: Family, model: str = "base") -> OpenRun:
    return open_runs(family.folder / model)[0]


def printed(family: Family, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["inspect", str(family.folder), *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def origin_at(family: Family, step: int) -> tuple[int, str]:
    """The first row of a step, and the origin of a document in it."""
    seen = next(rows_of_steps(opened(family), step, step))
    return seen.row, seen.pieces[0].origin


def test_what_a_spike_skipped_was_fed_but_not_seen(make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    family = make_family("family", *SKIP)
    with poison_steps(monkeypatch, {2: math.nan, 5: 100.0}):
        family.train("base")
    assert trained_steps(opened(family)) == (6, ((2, 2), (5, 5)))
    row, origin = origin_at(family, 5)
    places = json.loads(printed(family, "--document", origin, "--json"))
    (place,) = (place for place in places if place["row"] == row)
    assert set(place["skipped"]) == set(place["steps"])
    assert all(steps == [5] for steps in place["skipped"].values()), "the variants begin with the base's steps"
    assert place["steps"]["base"] == [5]
    assert all(min(steps) > 6 for steps in place["later"].values()), "a variant that is not trained yet"
    line = next(line for line in printed(family, "--document", origin).splitlines() if f"prose row {row}:" in line)
    assert "base was fed it at 5 (update skipped);" in line
    assert "== step 5 (update skipped), row 0:" in printed(family, "--step", "5", "--row", "0")
    assert "== step 4, row 0:" in printed(family, "--step", "4", "--row", "0")
    later = [row.update for row in rows_of_steps(opened(family, MODEL), 5, 7) if row.position == 0]
    assert later == ["skipped", "made", "later"]


def test_what_a_rollback_undid_was_fed_but_not_seen(make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    family = make_family("family", *ROLLBACK)
    stop_at(family, "base", 4)  # leaves a checkpoint that the rollback reaches behind
    with poison_steps(monkeypatch, {5: 100.0, 12: math.nan}):
        family.train("base")
        family.train(MODEL)
    assert trained_steps(opened(family, MODEL)) == (14, ((4, 5), (10, 12)))
    row, origin = origin_at(family, 4)
    lines = printed(family, "--document", origin).splitlines()
    assert "base was fed it at 4 (update skipped);" in next(line for line in lines if f"prose row {row}:" in line)
    assert trained_steps(opened(family), until=4) == (4, ()), "a branch from there keeps what the base undid later"
    for model in ("base", MODEL):
        assert not [found for found in audit(opened(family, model)) if found.result != "pass"]


def test_metrics_and_checkpoints_tell_the_same(make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    family, expected = make_family("family", *ROLLBACK), (14, ((4, 5), (10, 12)))
    with poison_steps(monkeypatch, {5: 100.0, 12: math.nan}):
        family.train("base")
        family.train(MODEL)
    metrics = {model: (family.folder / model / "metrics.jsonl").read_bytes() for model in ("base", MODEL)}
    for model in metrics:
        (family.folder / model / "metrics.jsonl").unlink()
    assert trained_steps(opened(family, MODEL)) == expected
    for model, lines in metrics.items():
        shutil.rmtree(family.folder / model / "checkpoints")
        (family.folder / model / "metrics.jsonl").write_bytes(lines)
    assert trained_steps(opened(family, MODEL)) == expected


def test_steps_since_the_newest_checkpoint_are_seen(run: Path) -> None:
    opened_run = open_runs(run / MODEL)[0]
    assert opened_run.store.steps()[-2:] == [12, 14]
    shutil.rmtree(run / MODEL / "checkpoints/step-14")
    assert trained_steps(opened_run) == (14, ())
    shutil.rmtree(run / MODEL / "checkpoints")
    assert trained_steps(opened_run) == (14, ())
    (run / MODEL / "metrics.jsonl").unlink()
    assert trained_steps(opened_run) == (6, ()), "those of the base"


def test_no_url_is_asked_for_what_is_on_this_machine(run: Path) -> None:
    (run / "recipe.yaml").write_text(dump_recipe(load_recipe("nano", [*SMALL, "checkpoints.url=s3://nowhere"])))
    assert trained_steps(open_runs(run / MODEL)[0]) == (14, ())
    origin = next(rows_of_steps(open_runs(run / MODEL)[0], 2, 2)).pieces[0].origin
    done = CliRunner().invoke(app, ["inspect", str(run / MODEL), "--document", origin])
    assert "saw it at 2" in done.stdout


def test_an_overflow_was_fed_but_not_seen(make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    family = make_family("family", "precision=fp16", "model.layers=1")
    monkeypatch.setattr(LossScaler, "overflows", lambda scaler, _loss, _norm: scaler.state.updates == 2)
    stop_at(family, "base", 4)
    assert trained_steps(opened(family)) == (4, ((3, 3),))
    assert [row.update for row in rows_of_steps(opened(family), 2, 5) if row.position == 0] == [
        "made", "skipped", "made", "later",
    ]  # fmt: skip
