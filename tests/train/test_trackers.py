"""Services that show metrics get every number by tokens, and a resumed run continues theirs.

Weights & Biases, Trackio and MLflow are extras: `make test-trackers` installs them, and these tests use them as they
are, on files of this machine.
"""

import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.train.test_metrics import HELD_OUT, SPIKE, STEP
from tinyllama.errors import TrainingError
from tinyllama.recipe import load_recipe
from tinyllama.train.metrics import Record, StepRecord
from tinyllama.train.trackers import TensorBoardLogger, _Background, _flat, open_trackers

ROOT = Path(__file__).parent.parent.parent
OF_STEPS = ("loss", "lr", "grad_norm", "batch", "seconds", "checkpoint_seconds", "tokens_per_second", "mfu")


def test_tensorboard_gets_every_number_by_tokens(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, 0)
    logger.log(STEP)
    logger.log(HELD_OUT)
    logger.log(SPIKE)
    logger.flush()
    logger.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {*(f"train/{name}" for name in OF_STEPS), "held_out/prose"}
    assert [(event.step, event.value) for event in events.Scalars("held_out/prose")] == [(10, 3.5)]


def test_a_service_that_fails_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        run = "1"
        calls = 0

        def log(self, record: Record) -> None:
            self.calls += 1
            raise RuntimeError(f"no space for {record.kind}\nand a second line")

        def finish(self) -> None:
            raise OSError

    broken = Broken()
    logger = _Background("logging.mlflow", broken)
    for _ in range(3):
        logger.log(STEP)
    logger.close()
    assert broken.calls == 3
    warning = "logging.mlflow: does not get everything (no space for step); training continues"
    assert [record.getMessage() for record in caplog.records] == [warning]


def test_without_services_no_file_is_written(tmp_path: Path) -> None:
    assert open_trackers(load_recipe("nano"), "base", tmp_path / "trackers.json") == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["wandb", "trackio", "mlflow"])
def test_a_missing_package_is_named_with_its_extra(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, key, None)
    with pytest.raises(TrainingError, match=rf"logging\.{key} needs an extra: pip install .*{key}"):
        open_trackers(load_recipe("nano", [f"logging.{key}=project"]), "base", tmp_path / "trackers.json")


def test_keys_of_nested_values_are_dotted() -> None:
    assert dict(_flat({"a": {"b": [1, "x"]}, "c": None})) == {"a.b.0": "1", "a.b.1": "x", "c": "None"}


SESSION = """
import sys
from pathlib import Path
from tests.train.test_trackers import session
session(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
"""


def session(key: str, first: int, last: int) -> None:
    """Show some steps by a service, as one run of the command does."""
    words = [f"logging.{key}=tinyllama", "logging.notify=http://127.0.0.1:9/secret-token"]
    loggers = open_trackers(load_recipe("nano", words), "base", Path("trackers.json"))
    for number in range(first, last + 1):
        for logger in loggers:
            logger.log(_step(number))
            logger.log(replace(HELD_OUT, step=number, tokens=10 * number))
    for logger in loggers:
        logger.close()


def _step(number: int) -> StepRecord:
    return replace(STEP, step=number, tokens=10 * number, loss=5 - number / 8, memory=1000 * number)


def _run(folder: Path, key: str) -> str:
    """The service's name of the base's run."""
    name: str = json.loads((folder / "trackers.json").read_text())["runs"][key]
    return name


def _wandb_losses(folder: Path, run: str) -> dict[int, float]:
    """Tokens → loss, from the protocol's records in all files of the run: LevelDB's log format, in blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    found: dict[int, float] = {}
    axes: set[tuple[str, str]] = set()
    for path in sorted(folder.glob(f"wandb/offline-run-*/run-{run}.wandb")):
        data, at, whole = path.read_bytes(), 7, b""  # after the file's header
        while at + 7 <= len(data):
            size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
            if kind:
                whole += data[at + 7 : at + 7 + size]
            if kind in {1, 4}:  # full, or the last part
                record, whole = wandb_internal_pb2.Record.FromString(whole), b""
                values = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
                if "train/loss" in values:
                    found[int(values["tokens"])] = float(values["train/loss"])
                if record.metric.step_metric:
                    axes.add((record.metric.glob_name or record.metric.name, record.metric.step_metric))
            at += 7 + size
            at += -at % 32768 if 32768 - at % 32768 < 7 else 0
    assert ("*", "tokens") in axes
    return found


def _trackio_losses(folder: Path, run: str) -> dict[int, float]:
    with sqlite3.connect(folder / "trackio/tinyllama.db") as database:
        rows = database.execute("SELECT step, metrics FROM metrics WHERE run_name = ?", [run]).fetchall()
    database.close()
    metrics = [(step, json.loads(text)) for step, text in rows]
    return {step: numbers["train/loss"] for step, numbers in metrics if "train/loss" in numbers}


def _mlflow_losses(folder: Path, run: str) -> dict[int, float]:
    with sqlite3.connect(folder / "mlflow.db") as database:
        query = "SELECT step, value FROM metrics WHERE run_uuid = ? AND key = 'train/loss'"
        rows = database.execute(query, [run]).fetchall()
        keys = dict(database.execute("SELECT key, value FROM params WHERE run_uuid = ?", [run]).fetchall())
        states = database.execute("SELECT status FROM runs").fetchall()
    database.close()
    assert keys["optimizer.kind"] == "adamw"
    assert states == [("FINISHED",)]
    return dict(rows)


LOSSES = {"wandb": _wandb_losses, "trackio": _trackio_losses, "mlflow": _mlflow_losses}


@pytest.mark.parametrize("key", LOSSES)
def test_a_run_that_resumes_continues_in_the_service_by_tokens(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(key)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    run = None
    for first, last in ((1, 3), (4, 6)):
        command = [sys.executable, "-c", SESSION, key, str(first), str(last)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert not done.stdout, "results alone go to stdout"
        assert "does not get everything" not in done.stderr
        assert run in {None, _run(tmp_path, key)}
        run = _run(tmp_path, key)
    assert run is not None
    assert LOSSES[key](tmp_path, run) == pytest.approx({10 * number: 5 - number / 8 for number in range(1, 7)})
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"secret-token" not in path.read_bytes(), path
