"""The commands that tell what training will do: `recipes`, `plan` and `rehearse`."""

from tinyllama.cli.planning import plan, rehearse

__all__ = ["plan", "rehearse"]
