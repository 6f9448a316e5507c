"""Ctrl-C and SIGTERM end any command at any moment with one line and the shell's exit code."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.field.commands import Commands, Outcome
from tests.field.conftest import Run

pytestmark = pytest.mark.field

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def _interrupted(
    commands: Commands, run: Callable[[], Outcome], number: int, ready: Callable[[], bool], after: float = 0
) -> Outcome:
    """How a command ends that gets a signal some time after it is ready."""

    def interrupt() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            child = commands.running()
            if child is not None and ready():
                time.sleep(after)
                os.kill(child, number)
                return
            time.sleep(0.002)

    thread = threading.Thread(target=interrupt)
    thread.start()
    done = run()
    thread.join()
    return done


def _is_one_line(done: Outcome, number: int) -> None:
    assert done.code == CODES[signal.Signals(number)], done
    assert "Traceback" not in done.err
    said = [line for line in done.err.splitlines() if "interrupted" in line or "terminated" in line]
    assert len(said) == 1, done.err


@pytest.fixture
def long(field: Path) -> Path:
    """The family with a text that takes a while."""
    line = "".join(f"The river number {number} runs to the sea of {number % 7}.\n" for number in range(30000))
    for number in range(8):
        (field / f"text/long-{number}.txt").write_text(line)
    return field


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("after", [0.05, 0.5])
def test_a_tokenizer_in_training_ends_with_one_line(
    long: Path, tinyllama: Run, commands: Commands, number: int, after: float
) -> None:
    done = _interrupted(
        commands, lambda: tinyllama("tokenizer", "train", "field.yaml", "--out", "out"), number, lambda: True, after
    )
    _is_one_line(done, number)
    assert not (long / "out").exists()


@pytest.mark.parametrize("number", CODES)
def test_a_preparation_in_processes_ends_at_once_with_one_line(
    field: Path, tinyllama: Run, commands: Commands, number: int
) -> None:
    tinyllama("prepare", "field.yaml").succeeded()
    line = "".join(f"The river number {number} runs to the sea of {number % 7}.\n" for number in range(60000))
    for index in range(8):
        (field / f"text/long-{index}.txt").write_text(line)
    work = field / "runs/field/corpora/.prose.work"
    arguments = ("prepare", "field.yaml", "--set", "corpora.prose.cut=100", "--workers", "2")
    done = _interrupted(commands, lambda: tinyllama(*arguments), number, work.is_dir, 0.3)
    _is_one_line(done, number)
    assert done.seconds < 20


@pytest.mark.usefixtures("field")
@pytest.mark.parametrize("number", CODES)
def test_a_plan_ends_with_one_line(tinyllama: Run, commands: Commands, number: int) -> None:
    arguments = ("plan", "field.yaml", "--set", "stages.1.until=3B", "--set", "optimizer.learning_rate.horizon=3B")
    done = _interrupted(commands, lambda: tinyllama(*arguments), number, lambda: True, 0.2)
    _is_one_line(done, number)
