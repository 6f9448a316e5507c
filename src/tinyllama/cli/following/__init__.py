"""The commands that follow runs: `watch` at the terminal, and `studio` on a page."""

from tinyllama.cli.following import studio, watch

__all__ = ["studio", "watch"]
