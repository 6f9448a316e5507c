"""The commands that design: `new`, `size`, `ladder` and `tune`."""

from tinyllama.cli.design import ladder, new, size, tune

__all__ = ["ladder", "new", "size", "tune"]
