"""A stage with a context of its own is trained, resumed, measured, exported and audited as such."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.train.processes import EXACT, train_on
from tests.train.runs import assert_same_run, deterministic_metrics, step_records
from tests.train.stopping import stop_at
from tinyllama.errors import CheckpointError
from tinyllama.family import Family
from tinyllama.fidelity import audit, find_document, open_runs, rows_of_steps
from tinyllama.formats.open import open_model
from tinyllama.recipe import load_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.fidelity.record import Outcome

OWN = "{name: own, until: 22K, batch: 2048, context: 128}"
LONG = (
    "stages.2.context=256",
    "stages.2.batch=4096",
    "stages.2.rope_theta=40000",
    f"branches={{far: {{from: math_code@16K, shares: {{prose: 50%, code: 50%}}, stages: [{OWN}]}}}}",
)
MODEL, BRANCH = "math_code", "far"
MODELS = ("base", MODEL, BRANCH)
FIRST = 13
"""The first step of the long stage, counted from 1; the stages before it have steps of 1,024 tokens."""


def _family(folder: Path) -> Family:
    return Family(load_recipe("nano", [*EXACT, *LONG]), folder)


@pytest.fixture(scope="module")
def straight(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family whose last stage is long, and a branch of another context from inside it, trained without a stop."""
    folder = tmp_path_factory.mktemp("contexts") / "straight"
    shutil.copytree(prepared, folder)
    _family(folder).train(BRANCH)
    return folder


def _failed(folder: Path) -> list[Outcome]:
    runs = [run for run in open_runs(folder) if run.model in MODELS]
    return [found for run in runs for found in audit(run) if found.result != "pass"]


def test_a_long_stage_is_trained_on_long_rows_and_measured_on_them(straight: Path) -> None:
    records = deterministic_metrics(straight / MODEL)
    assert [record["context"] for record in records if record["kind"] == "held_out"] == [64, 256]
    long = [record for record in step_records(straight / MODEL) if record.stage == "cooldown"]
    assert [(record.step, record.batch, record.tokens) for record in long] == [(13, 16, 16_384), (14, 16, 20_480)]
    assert not _failed(straight)
    run = next(run for run in open_runs(straight) if run.model == MODEL)
    before, after = (next(rows_of_steps(run, step, step)) for step in (FIRST - 1, FIRST))
    assert "@" not in before.corpus
    assert after.corpus.endswith("@256")
    document = after.pieces[0].origin
    found = [item for item in find_document([run], document) if (item.corpus, item.row) == (after.corpus, after.row)]
    assert FIRST in found[0].steps[MODEL]


def test_a_long_stage_resumes_and_forks_bit_for_bit(straight: Path, prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared, tmp_path / "stopped")
    family = _family(tmp_path / "stopped")
    family.train("base")
    for step in (FIRST - 1, FIRST):
        stop_at(family, MODEL, step)
    family.train(MODEL)
    stop_at(family, BRANCH, FIRST + 1)
    family.train(BRANCH)
    for name in MODELS:
        assert_same_run(straight / name, family.folder / name)


def test_a_model_has_the_shape_of_the_stage_that_it_has_reached(straight: Path) -> None:
    shapes = [open_model(straight / name).shape for name in MODELS]
    assert [(shape.context, shape.rope_theta) for shape in shapes] == [(64, 10_000), (256, 40_000), (128, 10_000)]
    assert open_model(straight / MODEL / "checkpoints/step-12").shape == shapes[0]


def test_another_context_is_refused_by_its_key(straight: Path) -> None:
    other = Family(load_recipe("nano", [*EXACT, *LONG, "stages.2.context=128", "stages.2.batch=2048"]), straight)
    with pytest.raises(CheckpointError, match=r"stages\.2\.context = 256, the recipe now says 128"):
        other.train(MODEL)


@pytest.mark.slow
def test_an_export_has_the_context_and_positions_of_the_last_stage(straight: Path) -> None:
    summary = _family(straight).report()
    assert set(summary.models) == set(MODELS)
    config = json.loads((straight / "exports" / MODEL / "config.json").read_text(encoding="utf-8"))
    assert (config["max_position_embeddings"], config["rope_theta"]) == (256, 40_000)
    card = (straight / "exports" / MODEL / "README.md").read_text(encoding="utf-8")
    assert "context 256 tokens" in card
    assert "16 x 256 = 4,096" in card
    page = (straight / "report.html").read_text(encoding="utf-8")
    assert "prose@256" in page
    assert "64 (base)" in page
    assert "in windows of the stage" in page


@pytest.mark.slow
def test_two_ranks_train_the_same_long_rows(straight: Path, prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    shutil.copytree(prepared, folder)
    for model in MODELS:
        assert train_on(folder, 2, 2, LONG, model) == [0, 0]
    for name in MODELS:
        one, two = (deterministic_metrics(run / name) for run in (straight, folder))
        rows = [[(r["step"], r["tokens"], r.get("lr"), r.get("digest")) for r in records] for records in (one, two)]
        assert rows[0] == rows[1]
        assert two[-1]["losses"] == pytest.approx(one[-1]["losses"], rel=5e-3)
