"""How fast, how long and until when each model was trained."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.report.conftest import write
from tests.report.test_page import MODELS, Page
from tinyllama.report import write_report
from tinyllama.report.run_data import read_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tinyllama.recipe import Recipe

PROCESS = {"format": 1, "host": "one", "pid": 17, "born": "", "began": 1782893000.5, "outcome": "finished"}
ENDED = 1782898259.9
"""2026-07-01 09:30:59.9 UTC."""


def rows(run: Path, recipe: Recipe) -> list[list[str]]:
    page = Page(write_report(run, recipe))
    return [[" ".join(cell.split()) for cell in row] for row in page.tables.get("training", [])]


def edit_steps(run: Path, model: str, **changes: list[Any]) -> int:
    """Give the first steps of a model these values; returns the number of all its steps."""
    path = run / model / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    steps = [record for record in records if record["kind"] == "step"]
    for key, values in changes.items():
        for step, value in zip(steps, values, strict=False):
            step[key] = value
    write(path, "".join(json.dumps(record) + "\n" for record in records))
    return len(steps)


def test_speed_is_that_of_the_median_step_and_time_that_of_steps_and_checkpoints(run: Path, recipe: Recipe) -> None:
    steps = edit_steps(run, "base", tokens_per_second=[1.0, 1e9], checkpoint_seconds=[30.0, 90.0])
    head, base, *_ = rows(run, recipe)
    assert head == ["", "tokens/s median step", "time steps and checkpoints"]
    minutes, seconds = divmod(round(120 + 0.4 * steps), 60)
    assert base == ["base", "9,000", f"{minutes} min {seconds} s"]


@pytest.fixture
def shanghai(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose local time is not UTC."""
    with monkeypatch.context() as place:
        place.setenv("TZ", "CST-8")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("shanghai")
def test_the_end_of_training_is_shown_in_utc_to_the_minute(run: Path, recipe: Recipe) -> None:
    write(run / "base/process.json", json.dumps(PROCESS | {"ended": ENDED}))
    head, base, *variants = rows(run, recipe)
    assert head[-1] == "ended UTC"
    assert base[-1] == "2026-07-01 09:30"
    assert [row[0] for row in variants] == MODELS[1:]
    assert {row[-1] for row in variants} == {"—"}


@pytest.mark.parametrize(
    "change",
    [{"ended": None, "outcome": None}, {"ended": ENDED, "outcome": "stopped"}, {"ended": 1e300}],
    ids=["killed", "stopped", "edited"],
)
def test_training_that_did_not_end_with_its_last_step_has_no_end(
    run: Path, recipe: Recipe, change: dict[str, Any]
) -> None:
    write(run / "base/process.json", json.dumps(PROCESS | change))
    assert [cell.split()[0] for cell in rows(run, recipe)[0] if cell] == ["tokens/s", "time"]


def test_edited_times_that_are_no_times_do_not_count(run: Path, recipe: Recipe) -> None:
    steps = edit_steps(run, "base", tokens_per_second=[float("nan")], seconds=[0.4, float("inf")])
    history = read_run(run, recipe).histories["base"]
    assert len(history.speeds) == steps - 2
    assert history.seconds == pytest.approx(0.4 * (steps - 2))


def test_a_family_without_metrics_has_no_such_table(run: Path, recipe: Recipe) -> None:
    for model in MODELS:
        (run / model / "metrics.jsonl").unlink()
    assert rows(run, recipe) == []


def test_the_same_folder_gives_the_same_page_at_any_time(run: Path, recipe: Recipe) -> None:
    write(run / "base/process.json", json.dumps(PROCESS | {"ended": ENDED}))
    page = write_report(run, recipe).read_bytes()
    for path in run.rglob("*"):
        os.utime(path, (10**9, 10**9))
    assert write_report(run, recipe).read_bytes() == page
