"""Scores during training come from copies, by a process that training does not wait for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.evaluation.conftest import write_rows
from tinyllama.checkpoint.format import steps_saved
from tinyllama.evaluation.record_folder import read_records_by_tokens
from tinyllama.family.background import COPIES, evaluate_copies
from tinyllama.report.figures import score_figure
from tinyllama.report.run_data import read_run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeFamily


def test_a_run_is_scored_by_tokens_while_it_trains_and_the_report_shows_it(
    make_family: MakeFamily, tmp_path: Path
) -> None:
    data = tmp_path / "rows"
    data.mkdir()
    write_rows(data)
    asked = ("evaluation.tasks_every=2K", f"evaluation.data={data}", "evaluation.tasks=[boolq]")
    family = make_family("family", *asked, "checkpoints.keep=1")
    began = time.monotonic()
    family.train("base")
    run = family.folder / "base"
    evaluate_copies(run, data, ["boolq"])  # waits for those that train started
    assert time.monotonic() - began < 200
    records = read_records_by_tokens(family.folder / "evaluation/base/by_tokens")
    assert records, (run / f"{COPIES}.log").read_text()
    assert {record.source.step for record in records} >= {steps_saved(run / "checkpoints")[-1]}
    assert all(record.scores.measured["boolq"].questions == 4 for record in records)
    assert steps_saved(run / COPIES) == []
    figure = score_figure(read_run(family.folder, family.recipe))
    assert figure is not None
    assert figure.lines[0].x == [record.source.tokens for record in records]
