from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tinyllama.report.run_data import POINTS, Bin, StageHistory, coarsen, read_run

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.recipe import Recipe


def steps(count: int) -> list[Bin]:
    return [Bin(4 * i, 4 * i + 4, 1, float(i % 7), 1 / (i + 1), {"a": i % 3, "b": 1}) for i in range(count)]


@pytest.mark.parametrize("count", [1, 2 * POINTS, 2 * POINTS + 1, 5000])
def test_thinning_keeps_steps_sequences_and_the_mean_loss(count: int) -> None:
    stage = StageHistory(batch=4, context=64)
    for step in steps(count):
        stage.add(step)
    assert len(stage.bins) <= 2 * POINTS
    assert max(item.steps for item in stage.bins) == stage.steps_per_bin
    assert sum(item.steps for item in stage.bins) == count
    assert sum(item.counts["a"] for item in stage.bins) == sum(i % 3 for i in range(count))
    mean = sum(item.loss * item.steps for item in stage.bins) / count
    assert mean == pytest.approx(sum(i % 7 for i in range(count)) / count)
    assert (stage.bins[0].start, stage.bins[-1].end) == (0, 4 * count)


def test_thinned_points_follow_each_other_without_gaps() -> None:
    bins = coarsen(steps(1001), 50)
    assert 50 < len(bins) <= 100
    assert all(before.end == after.start for before, after in pairwise(bins))


def test_a_series_that_is_short_enough_is_kept_as_it_is() -> None:
    assert coarsen(steps(100), 50) == steps(100)


def test_a_line_cut_short_by_a_crash_is_left_aside(run: Path, recipe: Recipe) -> None:
    with (run / "base/metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"kind": "st')
    assert read_run(run, recipe).missing == {}


def test_a_broken_line_ends_the_curves_and_is_named(run: Path, recipe: Recipe) -> None:
    path = run / "base/metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[4] = json.dumps({"kind": "step"})
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = read_run(run, recipe)
    assert data.missing["base/metrics.jsonl"].startswith("base/metrics.jsonl:5: step: is missing")
    assert sum(item.steps for item in data.histories["base"].bins) == 4


def test_files_that_are_no_json_objects_are_named(run: Path, recipe: Recipe) -> None:
    (run / "summary.json").write_text("{", encoding="utf-8")
    (run / "evaluation/samples.json").write_text("[]", encoding="utf-8")
    missing = read_run(run, recipe).missing
    assert missing["summary.json"].startswith("summary.json: is not JSON (")
    assert (
        missing["evaluation/samples.json"]
        == "evaluation/samples.json: is not a JSON object; run `tinyllama report` again"
    )
