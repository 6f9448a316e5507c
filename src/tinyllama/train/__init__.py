"""Training: optimizer, precision, ranks and the training loop."""

from tinyllama.train.ranks import Ranks, join_ranks
from tinyllama.train.run import Run, find_start, is_finished
from tinyllama.train.trainer import train

__all__ = ["Ranks", "Run", "find_start", "is_finished", "join_ranks", "train"]
