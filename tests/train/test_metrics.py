import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tinyllama.errors import NewerFormatError, TrainingError
from tinyllama.train.metrics import (
    HeldOutRecord,
    JsonlLogger,
    Record,
    SpikeRecord,
    StepRecord,
    chain_at,
    chain_start,
    link,
    read_lines,
    read_metrics,
    split_chain,
)

STEP = StepRecord(
    step=1, stage="base", tokens=10, loss=2.0, lr=1e-3, grad_norm=0.5, batch=2, counts={"a": 2}, seconds=0.1,
    checkpoint_seconds=0.0, tokens_per_second=100.0, mfu=0.4,
)  # fmt: skip
HELD_OUT = HeldOutRecord(step=1, tokens=10, losses={"prose": 3.5})
SPIKE = SpikeRecord(
    step=3, stage="base", tokens=30, loss=None, grad_norm=None, threshold=None, policy="skip", skipped=(2, 3),
    rows=["a:1", "a:2"],
)  # fmt: skip
OLD_STEP = (
    '{"kind": "step", "step": 1, "stage": "base", "tokens": 10, "loss": 2.0, "lr": 0.001, "grad_norm": 0.5, '
    '"batch": 2, "counts": {"a": 2}, "seconds": 0.1, "checkpoint_seconds": 0.0, "tokens_per_second": 100.0, '
    '"utilisation": 0.4}'
)
OLD_SPIKE = (
    '{"kind": "spike", "step": 3, "stage": "base", "tokens": 30, "loss": null, "grad_norm": null, "threshold": null, '
    '"policy": "skip", "left_out": [2, 3], "rows": ["a:1", "a:2"]}'
)


def _step(step: int, loss: float = 2.0) -> StepRecord:
    return replace(STEP, step=step, tokens=10 * step, loss=loss)


def _write(path: Path, *records: Record, step: int = 0) -> None:
    logger = JsonlLogger(path, step)
    for record in records:
        logger.log(record)
    logger.flush()
    logger.close()


def test_what_is_logged_is_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    _write(path, STEP, HELD_OUT, SPIKE)
    assert list(read_metrics(path)) == [STEP, HELD_OUT, SPIKE]
    assert json.loads(path.read_text().splitlines()[0]) == {"kind": "header", "format": 2}


def test_resuming_at_a_step_drops_what_came_after_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    _write(path, *(_step(step) for step in range(1, 6)))
    _write(path, _step(4, loss=1.0), step=3)
    steps = [(record.step, record.loss) for record in read_metrics(path) if record.kind == "step"]
    assert steps == [(1, 2.0), (2, 2.0), (3, 2.0), (4, 1.0)]


def test_a_file_of_4bd9be0_is_resumed_and_read_with_old_and_new_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{OLD_STEP}\n{OLD_SPIKE}\n{OLD_STEP.replace('1,', '9,', 1)}\n")
    _write(path, _step(4), step=3)
    assert list(read_metrics(path)) == [STEP, SPIKE, _step(4)]


def test_each_line_is_chained_to_the_one_before_it_also_after_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    _write(path, _step(1), _step(2), _step(3))
    _write(path, _step(3, loss=1.0), step=2)
    head = ""
    for _, line in read_lines(path):
        text, chain = split_chain(line)
        head = link(head, text)
        assert chain == head
    logger = JsonlLogger(path, 3)
    logger.close()
    assert logger.head == head


def test_the_chain_of_a_variant_continues_that_of_its_base_at_the_fork(tmp_path: Path) -> None:
    base, path = tmp_path / "base.jsonl", tmp_path / "metrics.jsonl"
    _write(base, _step(1), _step(2), _step(3))
    fork = chain_at(base, 2)
    JsonlLogger(path, 2, "of another base").close()  # and died before its first step
    logger = JsonlLogger(path, 2, fork)
    logger.log(_step(3))
    logger.close()
    assert chain_start(path) == fork != chain_at(base, 3)
    again = JsonlLogger(path, 3, "not needed")
    again.close()
    assert again.head == logger.head == link(fork, json.dumps(asdict(_step(3))))
    assert (chain_start(base), chain_at(base, 4), chain_at(tmp_path / "none", 1)) == ("", "", "")


def test_a_line_cut_short_by_a_crash_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(OLD_STEP + '\n{"kind": "st')
    assert list(read_metrics(path)) == [STEP]
    assert list(read_metrics(tmp_path / "none.jsonl")) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no JSON", r"metrics\.jsonl:2: .*JSON"),
        ('{"kind": "other"}', r"metrics\.jsonl:2: .*'step', 'held_out', 'spike'"),
        ('{"kind": "held_out", "step": 1, "tokens": 2}', r"metrics\.jsonl:2: losses: is missing"),
        ('{"kind": "held_out", "step": "1", "tokens": 2, "losses": {}}', r"metrics\.jsonl:2: step: .*integer"),
        ('{"kind": "header", ' + "[" * 100_000, r"metrics\.jsonl: is not JSON"),
        ('{"kind": "header"', r"metrics\.jsonl: is not JSON"),
        ('{"kind": "header", "format": 3}', r"metrics\.jsonl: format: 3 was written by a later version"),
    ],
)
def test_a_line_that_is_no_record_is_named_with_its_key(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{OLD_STEP}\n{line}\n")
    records = read_metrics(path)
    assert next(records) == STEP, "what stands before it is read"
    with pytest.raises((TrainingError, NewerFormatError), match=message):
        next(records)


def test_a_million_records_are_cut_without_reading_them_all(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with path.open("w") as file:
        # What is not near the end is never parsed.
        file.write("no JSON at all\n" * 1000)
        file.writelines(json.dumps({"kind": "step", "step": step, "stage": "base"}) + "\n" for step in range(1, 5001))
        file.write('{"kind": "st')
    size = path.stat().st_size
    JsonlLogger(path, 4000).close()
    kept = path.read_text().splitlines()
    assert json.loads(kept[-1])["step"] == 4000
    assert path.stat().st_size < size


def test_cutting_before_the_first_record_leaves_the_header_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    _write(path, _step(5))
    _write(path, step=4)
    assert list(read_metrics(path)) == []
    path.write_text(OLD_STEP + "\n")
    _write(path, step=0)
    assert path.read_text().splitlines() == ['{"kind": "header", "format": 2}']


def test_records_are_read_without_torch() -> None:
    import subprocess
    import sys

    code = "import tinyllama.train.metrics, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
