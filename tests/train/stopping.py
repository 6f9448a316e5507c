"""Runs that a signal stops at a step."""

import os
import signal

import pytest

from tinyllama.errors import Interrupted
from tinyllama.family import Family
from tinyllama.train.metrics import Record
from tinyllama.train.trainer import train


class StopAt:
    """Sends this process a signal when a step is logged, as done or as skipped."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        self.step, self.number = step, number

    def log(self, record: Record) -> None:
        if record.kind in {"step", "spike", "overflow"} and record.step == self.step:
            os.kill(os.getpid(), self.number)

    def flush(self) -> None: ...

    def close(self) -> None: ...


def stop_at(family: Family, model: str, step: int, number: int = signal.SIGTERM) -> Interrupted:
    """Train a model until a step, where it is stopped."""
    run = family.training_run(model)
    run.watch.append(StopAt(step, number))
    with pytest.raises(Interrupted) as caught:
        train(run)
    return caught.value
