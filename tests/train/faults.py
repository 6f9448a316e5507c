"""Faults planted at a point of the code, so that a seed replays them."""

import importlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce, wraps
from random import Random
from typing import Any

POINTS = {
    "step": ("tinyllama.train.forward_backward", "Gradients.__call__", 6),
    "update": ("tinyllama.train.optimizer", "apply", 6),
    "checkpoint": ("tinyllama.train.saving", "save_checkpoint", 2),
    "manifest": ("tinyllama.checkpoint.format", "_complete", 2),
    "durable write": ("tinyllama.files", "fsync_path", 16),
    "pruning": ("tinyllama.checkpoint.store", "prune", 2),
    "evaluation": ("tinyllama.evaluation.bits", "_sum_losses", 6),
    "loading": ("tinyllama.train.training_state", "load_tensors", 2),
    "fork": ("tinyllama.train.run", "_fork", 1),
}
"""Name → module, function, and up to which of its calls a fault waits."""
_ON_FIRST = ("manifest", "durable write", "pruning", "fork")
"""What rank 0 alone does."""


@dataclass(frozen=True)
class Fault:
    """A signal that a rank sends itself at a call of a function."""

    point: str
    call: int
    """Of the function in that process, from 1."""
    after: bool
    """As the call returns, or as it begins."""
    rank: int
    number: signal.Signals

    def plant(self) -> None:
        """Change the function in this process."""
        module, path, _ = POINTS[self.point]
        *outer, name = path.split(".")
        owner = reduce(getattr, outer, importlib.import_module(module))
        setattr(owner, name, self._struck(getattr(owner, name)))

    def _struck(self, function: Callable[..., Any]) -> Callable[..., Any]:
        calls = 0

        @wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401  # as the function
            nonlocal calls
            calls += 1
            if calls == self.call and not self.after:
                os.kill(os.getpid(), self.number)
            result = function(*arguments, **keywords)
            if calls == self.call and self.after:
                os.kill(os.getpid(), self.number)
            return result

        return call

    def __str__(self) -> str:
        moment = "after" if self.after else "before"
        return f"{moment} {self.point} {self.call}"


def draw_fault(chance: Random, ranks: int) -> Fault:
    """Any fault, each point as likely as any other."""
    point = chance.choice(list(POINTS))
    return Fault(
        point,
        chance.randint(1, POINTS[point][2]),
        chance.random() < 0.5,
        0 if point in _ON_FIRST else chance.randrange(ranks),
        chance.choice([signal.SIGKILL, signal.SIGTERM]),
    )
