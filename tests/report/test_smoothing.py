"""Loss curves: a smoothed line above the faint line of the points."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import pstdev
from typing import TYPE_CHECKING

import pytest

from tests.report.test_page import MODELS, Page
from tinyllama.report import write_report
from tinyllama.report.run_data import read_run
from tinyllama.report.smoothing import running_mean

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.recipe import Recipe


@pytest.mark.parametrize("count", [0, 1, 2, 3, 99, 1000])
def test_a_level_stays_and_every_point_has_its_mean(count: int) -> None:
    assert running_mean([2.5] * count, [1] * count) == pytest.approx([2.5] * count)


def test_a_window_is_centered_weighted_and_shrinks_at_both_ends() -> None:
    assert running_mean([4.0, 1.0, 3.0, 8.0], [1, 1, 2, 1]) == pytest.approx([4, 11 / 4, 15 / 4, 14 / 3])


def test_a_window_has_a_fiftieth_of_the_points() -> None:
    smooth = running_mean([float(at == 500) for at in range(1000)], [1] * 1000)
    assert [at for at, value in enumerate(smooth) if value > 1e-9] == list(range(490, 511))
    assert smooth[500] == pytest.approx(1 / 21)


def test_a_spike_leaves_the_windows_after_it_alone() -> None:
    smooth = running_mean([2.0] * 10 + [1e30] + [2.0] * 89, [1] * 100)
    assert smooth[:9] == [2.0] * 9
    assert smooth[12:] == [2.0] * 88


def test_values_that_are_not_finite_do_not_count() -> None:
    smooth = running_mean([1.0, 2.0, math.nan, math.inf, math.nan, 6.0, 7.0], [1] * 7)
    assert smooth[:3] == [1.0, 1.5, 2.0]
    assert math.isnan(smooth[3])
    assert smooth[4:] == [6.0, 6.5, 6.5]


def test_each_model_has_one_smooth_line_over_its_faint_points(run: Path, recipe: Recipe) -> None:
    page, histories = Page(write_report(run, recipe)), read_run(run, recipe).histories
    traces = [trace for trace in page.figures["training"]["data"] if trace["meta"]]
    faint, smooth = traces[: len(MODELS)], traces[len(MODELS) :]
    assert [trace["name"] for trace in smooth] == [trace["meta"]["model"] for trace in faint] == MODELS
    for points, line in zip(faint, smooth, strict=True):
        bins = histories[line["name"]].bins
        assert points["x"] == line["x"]
        assert points["y"][-len(bins) :] == pytest.approx([item.loss for item in bins], rel=1e-4)
        assert points["opacity"] < 0.5
        assert points["hoverinfo"] == "skip"
        assert "opacity" not in line
        assert _roughness(line["y"]) < _roughness(points["y"]) / 1.5
    assert [chip["data-model"] for chip in page.find("button")][: len(MODELS)] == MODELS
    assert "running mean over 1/50" in page.text


def _roughness(losses: list[float]) -> float:
    return pstdev(after - before for before, after in pairwise(losses))
