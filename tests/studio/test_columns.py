"""The columnar copy of metrics: it equals the records, is appended to, and follows a file that was cut."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tinyllama.studio.columns import MetricColumns
from tinyllama.studio.metric_blocks import FLOATS, KINDS
from tinyllama.train.metrics import HeldOutRecord, JsonlLogger, OverflowRecord, SpikeRecord, StepRecord, read_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tinyllama.train.metrics import Record

CORPORA = ("prose", "code")
LARGE = 1500
"""Steps that are read by pyarrow."""


def records(steps: int, first: int = 1, loss: float = 3.0) -> Iterator[Record]:
    """Steps with a spike at 5, an overflow at 7, and held-out losses after every tenth."""
    for step in range(first, first + steps):
        counts = {"prose": 3, "code": 1} if step % 3 else {"prose": 4}
        common: dict[str, Any] = {"step": step, "stage": "base" if step < 20 else "domain", "tokens": step * 256}
        if step == 5:
            yield SpikeRecord(
                **common,
                loss=None,
                grad_norm=None,
                threshold=4.0,
                policy="skip",
                skipped=(5, 5),
                rows=["prose:1", "code:2"],
            )
        elif step == 7:
            yield OverflowRecord(**common, scale=512.0, counts=counts)
        else:
            yield StepRecord(
                **common, loss=loss + step / 1000, lr=1e-3 / step, grad_norm=0.5, batch=4, counts=counts, seconds=0.25,
                checkpoint_seconds=0.0, tokens_per_second=1024.0, mfu=0.4, digest="1f",
                memory=step << 20 if step > 3 else None,
            )  # fmt: skip
        if step % 10 == 0:
            yield HeldOutRecord(step=step, tokens=step * 256, losses={"prose": loss})


def write(path: Path, found: Iterator[Record], step: int = 0) -> None:
    logger = JsonlLogger(path, step)
    for record in found:
        logger.log(record)
    logger.close()


def opened(path: Path) -> MetricColumns:
    columns = MetricColumns(path, CORPORA, path.with_name("columns"))
    while columns.update():
        pass
    return columns


def assert_equal_to_records(columns: MetricColumns, path: Path) -> None:
    found = [record for record in read_metrics(path) if record.kind != "held_out"]
    assert columns.column("step").tolist() == [record.step for record in found]
    assert columns.column("tokens").tolist() == [record.tokens for record in found]
    assert [KINDS[kind] for kind in columns.column("kind").tolist()] == [record.kind for record in found]
    assert [columns.stages[stage] for stage in columns.column("stage").tolist()] == [record.stage for record in found]
    for name in FLOATS:
        wanted = [getattr(record, name) if record.kind == "step" else np.nan for record in found]
        np.testing.assert_array_equal(columns.column(name), np.array(wanted, np.float32))
    code = [1 if record.kind == "spike" else record.counts.get("code", 0) for record in found]
    assert columns.column("code").tolist() == code
    assert columns.events == [record for record in read_metrics(path) if record.kind != "step"]


@pytest.mark.parametrize("steps", [40, LARGE])
def test_columns_hold_what_the_records_say(tmp_path: Path, steps: int) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, records(steps))
    columns = opened(path)
    assert_equal_to_records(columns, path)
    columns.close()
    assert_equal_to_records(opened(path), path)


def test_new_lines_are_added_and_half_a_line_waits(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, records(40))
    columns = opened(path)
    whole = path.read_bytes()
    logger = JsonlLogger(path, 40)
    for record in records(2, first=41):
        logger.log(record)
    logger.close()
    longer = path.read_bytes()
    path.write_bytes(longer[: len(whole) + 30])
    assert not columns.update()
    path.write_bytes(longer)
    assert columns.update()
    assert_equal_to_records(columns, path)


def test_what_was_read_once_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, records(LARGE))
    opened(path).close()
    text = path.read_bytes()
    path.write_bytes(b"#" * 1000 + text[1000:])  # nobody reads it, so nobody complains
    columns = opened(path)
    assert len(columns.column("loss")) == LARGE
    assert not columns.error


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize(("steps", "cut"), [(60, 33), (LARGE, 700)])
def test_a_resumed_run_replaces_the_steps_that_it_repeats(
    tmp_path: Path, steps: int, cut: int, *, closed: bool
) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, records(steps))
    columns = opened(path)
    if closed:
        columns.close()
    write(path, records(steps, first=cut + 1, loss=9.0), step=cut)
    if closed:
        columns = opened(path)
    while columns.update():
        pass
    assert_equal_to_records(columns, path)
    assert columns.column("loss")[cut] > 9.0


def test_a_file_that_begins_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, records(40))
    columns = opened(path)
    path.unlink()
    assert columns.update()
    assert not len(columns.column("loss"))
    write(path, records(50, loss=5.0))
    columns.update()
    assert_equal_to_records(columns, path)


@pytest.mark.parametrize("steps", [40, LARGE])
def test_a_damaged_line_is_named_and_the_steps_before_it_stay(tmp_path: Path, steps: int) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, records(steps))
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    lines[30] = '{"kind": "step", "step": "many"}\n'
    path.write_text("".join(lines))
    columns = opened(path)
    assert f"{path}:31: " in columns.error
    assert len(columns.column("loss")) == json.loads(lines[29])["step"]
    path.write_text(whole + lines[-1])
    while columns.update():
        pass
    assert not columns.error


def test_two_processes_do_not_write_the_same_files(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, records(40))
    first, second = opened(path), opened(path)
    assert_equal_to_records(first, path)
    assert_equal_to_records(second, path)
    first.close()
    second.close()
    assert (tmp_path / "columns" / "state.json").is_file()


@pytest.mark.parametrize("damage", ["{", '{"format": 99}', "[]"])
def test_a_copy_that_cannot_be_read_is_made_again(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, records(40))
    opened(path).close()
    (tmp_path / "columns" / "state.json").write_text(damage)
    assert_equal_to_records(opened(path), path)


def test_a_copy_whose_files_are_too_short_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, records(40))
    opened(path).close()
    (tmp_path / "columns" / "loss.f4").write_bytes(b"")
    assert_equal_to_records(opened(path), path)


@pytest.mark.parametrize("steps", [40, LARGE])
def test_losses_that_are_not_finite_are_kept_as_such(tmp_path: Path, steps: int) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, records(steps, loss=float("nan")))
    columns = opened(path)
    assert len(columns.column("loss")) == steps
    assert np.isnan(columns.column("loss")).all()
    assert np.isfinite(columns.column("lr")[:4]).all()


def test_files_of_the_first_format_are_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, records(LARGE))
    lines = path.read_text().splitlines(keepends=True)[1:]
    path.write_text("".join(lines).replace('"mfu"', '"utilisation"'))
    columns = opened(path)
    assert columns.column("mfu")[0] == np.float32(0.4)
    assert_equal_to_records(columns, path)


def test_a_copy_from_before_a_column_was_added_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, records(LARGE))
    columns = opened(path)
    columns.close()
    (tmp_path / "columns" / "memory.f4").unlink()
    assert_equal_to_records(opened(path), path)


def test_where_the_copy_cannot_be_kept_it_stays_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, records(40))
    columns = opened(path)
    (tmp_path / "columns").rmdir()
    write(path, records(LARGE, first=41), step=40)
    while columns.update():
        pass
    assert_equal_to_records(columns, path)
    columns.close()
