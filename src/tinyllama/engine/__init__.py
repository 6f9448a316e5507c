"""The engine: optimizer, precision, checkpoints and the training loop."""

from tinyllama.engine.trainer import BASE, Run, find_start, is_finished, train

__all__ = ["BASE", "Run", "find_start", "is_finished", "train"]
