"""Follow a family's training: `watch`."""

from tinyllama.cli.watching import command

__all__ = ["command"]
