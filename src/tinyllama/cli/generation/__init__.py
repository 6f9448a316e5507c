"""The commands that generate text: `generate` and `chat`."""

from tinyllama.cli.generation import chat, generate

__all__ = ["chat", "generate"]
