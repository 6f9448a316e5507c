"""Runs that a signal stops at a step."""

import os
import signal
from typing import Any

import pytest

from tinyllama.errors import Interrupted
from tinyllama.family import Family
from tinyllama.train import train


class StopAt:
    """Sends this process a signal when a step is logged, as done or as left out."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        self.step, self.number = step, number

    def log(self, record: dict[str, Any]) -> None:
        if record["kind"] in {"step", "spike"} and record["step"] == self.step:
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
