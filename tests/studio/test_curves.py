"""Curves with few points keep the least and greatest losses, and the sums of what they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.studio.test_columns import CORPORA, opened, records, write
from tinyllama.studio.curves import Wanted, curves

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.studio.columns import MetricColumns

ALL, CONTEXTS = (-1, 1 << 62), {"base": 64, "domain": 64}


@pytest.fixture
def columns(tmp_path: Path) -> MetricColumns:
    """300 steps of 256 tokens, with a loss of 50 at step 200."""
    path = tmp_path / "metrics.jsonl"
    found = list(records(300))
    high = next(index for index, record in enumerate(found) if record.kind == "step" and record.step == 200)
    write(path, iter([*found[:high], *records(1, first=200, loss=50.0), *found[high + 2 :]]))
    return opened(path)


def test_few_steps_are_points_of_their_own(columns: MetricColumns) -> None:
    found = curves(columns, CORPORA, CONTEXTS, Wanted(ALL, 1000))
    assert found.steps == list(range(1, 301))
    assert found.steps_per_point == 1
    assert found.loss == found.low == found.high
    assert found.loss[4] is None  # the spike
    assert found.loss[0] == pytest.approx(3.001, abs=1e-5)
    assert found.batch[0] == 256


def test_buckets_have_equal_tokens_and_lose_no_extreme(columns: MetricColumns) -> None:
    found = curves(columns, CORPORA, CONTEXTS, Wanted(ALL, 30))
    assert len(found.tokens) == 30
    assert found.tokens[-1] == 300 * 256
    assert found.steps_per_point == 10
    at = found.high.index(50.2)
    assert found.steps[at - 1] < 200 <= found.steps[at]
    assert (found.low[at] or 0) < 4 < (found.loss[at] or 0) < 50


def test_shares_count_every_sequence_once(columns: MetricColumns) -> None:
    whole, few = (
        curves(columns, CORPORA, CONTEXTS, Wanted(ALL, 1000)),
        curves(columns, CORPORA, CONTEXTS, Wanted(ALL, 1)),
    )
    sequences = [2 if step == 5 else 4 for step in whole.steps]
    total = sum((share or 0) * batch for share, batch in zip(whole.shares["code"], sequences, strict=True))
    assert few.shares["code"] == [pytest.approx(total / sum(sequences), rel=1e-5)]


def test_a_span_shows_its_own_steps_in_detail(columns: MetricColumns) -> None:
    found = curves(columns, CORPORA, CONTEXTS, Wanted((100 * 256, 120 * 256), 30))
    assert found.steps == list(range(101, 121))
    assert found.held_out["prose"].tokens == [110 * 256, 120 * 256]


def test_a_span_without_steps_has_no_points(columns: MetricColumns) -> None:
    found = curves(columns, CORPORA, CONTEXTS, Wanted((10**9, 10**10), 30))
    assert found.tokens == found.loss == found.low == found.shares["prose"] == []


def test_many_held_out_losses_become_few_with_the_last(columns: MetricColumns) -> None:
    found = curves(columns, CORPORA, CONTEXTS, Wanted(ALL, 10)).held_out["prose"]
    assert len(found.tokens) <= 11
    assert found.tokens[-1] == 300 * 256


@pytest.mark.parametrize("points", [1000, 30])
def test_a_page_that_asks_for_what_came_has_the_same_curves_as_one_that_asks_for_all(
    tmp_path: Path, points: int
) -> None:
    path, found = tmp_path / "metrics.jsonl", list(records(400))
    write(path, iter(found[:330]))
    columns = opened(path)
    old = curves(columns, CORPORA, CONTEXTS, Wanted(ALL, points))
    write(path, iter(found))
    columns.update()
    kept = len(old.tokens) - 1
    asked = Wanted(ALL, points, old.tokens[kept - 1], old.width, old.history)
    new = curves(columns, CORPORA, CONTEXTS, asked)
    assert (new.after, new.width, new.version > old.version) == (old.tokens[kept - 1], old.width, True)
    assert new.tokens[0] > old.tokens[kept - 1]
    assert len(new.tokens) < len(old.tokens)
    grown = [*old.loss[:kept], *new.loss], [*old.high[:kept], *new.high]
    steps = [*old.steps[:kept], *new.steps]
    again = curves(columns, CORPORA, CONTEXTS, Wanted(ALL, points, 0, old.width, old.history))  # from the first on
    assert (again.loss, again.high) == grown
    assert again.steps == steps
    held_out = [tokens for tokens in old.held_out["prose"].tokens if tokens <= new.after]
    if points > 40:  # else the page's are fewer than there are
        assert held_out + new.held_out["prose"].tokens == again.held_out["prose"].tokens


def test_what_a_page_has_is_not_continued_after_steps_were_dropped_or_when_there_are_too_many_buckets(
    tmp_path: Path,
) -> None:
    path, found = tmp_path / "metrics.jsonl", list(records(400))
    write(path, iter(found[:60]))
    columns = opened(path)
    old = curves(columns, CORPORA, CONTEXTS, Wanted(ALL, 20))
    asked = Wanted(ALL, 20, old.tokens[-2], old.width, old.history)
    write(path, iter(found))
    columns.update()
    assert curves(columns, CORPORA, CONTEXTS, asked).after == -1  # 130 of these buckets
    write(path, iter(found[:50]))
    columns.update()
    shorter = curves(columns, CORPORA, CONTEXTS, asked)
    assert shorter.after == -1
    assert shorter.history != old.history
