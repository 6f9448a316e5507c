"""Training: optimizer, precision, ranks and the training loop. Names are imported when they are asked for.

So the records of a run can be read (`train.metrics`) without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyllama.train.ranks import Ranks, join_ranks
    from tinyllama.train.run import TrainingRun, find_start, is_finished
    from tinyllama.train.trainer import train

__all__ = ["Ranks", "TrainingRun", "find_start", "is_finished", "join_ranks", "train"]
_MODULES = {
    "Ranks": "ranks",
    "TrainingRun": "run",
    "find_start": "run",
    "is_finished": "run",
    "join_ranks": "ranks",
    "train": "trainer",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
