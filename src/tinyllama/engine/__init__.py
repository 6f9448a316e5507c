"""The engine: optimizer, precision, ranks, checkpoints and the training loop."""

from tinyllama.engine.ranks import Ranks, join_ranks
from tinyllama.engine.run import BASE, Run, find_start, is_finished
from tinyllama.engine.trainer import train

__all__ = ["BASE", "Ranks", "Run", "find_start", "is_finished", "join_ranks", "train"]
