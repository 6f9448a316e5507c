import json
from pathlib import Path

from tinyllama.train.metrics import JsonlLogger, TensorBoardLogger, read_metrics

STEP = {"kind": "step", "stage": "base", "loss": 2.0, "counts": {"a": 1}}


def _record(step: int) -> dict[str, object]:
    return STEP | {"step": step, "tokens": step * 10}


def test_starting_again_at_a_step_drops_what_came_after_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    logger = JsonlLogger(path, 0)
    for step in range(1, 6):
        logger.log(_record(step))
    logger.flush()
    logger.close()
    logger = JsonlLogger(path, 3)
    logger.log(_record(4) | {"loss": 1.0})
    logger.close()
    assert [(record["step"], record["loss"]) for record in read_metrics(path)] == [
        (1, 2.0),
        (2, 2.0),
        (3, 2.0),
        (4, 1.0),
    ]


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"kind": "step", "step": 1}\n{"kind": "st')
    assert read_metrics(path) == [{"kind": "step", "step": 1}]
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_a_million_records_are_cut_without_reading_them_all(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with path.open("w") as file:
        # What is not near the end is never parsed.
        file.write("no JSON at all\n" * 1000)
        file.writelines(json.dumps(_record(step)) + "\n" for step in range(1, 5001))
        file.write('{"kind": "st')
    size = path.stat().st_size
    logger = JsonlLogger(path, 4000)
    logger.close()
    kept = path.read_text().splitlines()
    assert json.loads(kept[-1])["step"] == 4000
    assert path.stat().st_size < size


def test_cutting_before_the_first_record_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(_record(5)) + "\n")
    JsonlLogger(path, 4).close()
    assert path.read_text() == ""


def test_tensorboard_gets_every_number_by_tokens(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, 0)
    logger.log(_record(1))
    logger.log({"kind": "held_out", "step": 1, "tokens": 10, "losses": {"prose": 3.5}})
    logger.flush()
    logger.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"train/loss", "held_out/prose"}
    assert [(event.step, event.value) for event in events.Scalars("held_out/prose")] == [(10, 3.5)]
