"""The application with all its commands: each module adds its own when it is imported."""

from tinyllama.cli import (
    contamination,
    corpora,
    evaluation,
    generation,
    interop,
    launch,
    planning,
    rehearse,
    serving,
    training,
)
from tinyllama.cli.app import app

__all__ = [
    "app",
    "contamination",
    "corpora",
    "evaluation",
    "generation",
    "interop",
    "launch",
    "planning",
    "rehearse",
    "serving",
    "training",
]
