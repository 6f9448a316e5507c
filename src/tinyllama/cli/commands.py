"""The application with all commands: each module registers its commands on import."""

from tinyllama.cli import (
    corpora,
    evaluation,
    fidelity,
    generation,
    interop,
    launch,
    planning,
    rehearse,
    serving,
    training,
    watching,
)
from tinyllama.cli.app import app

__all__ = [
    "app",
    "corpora",
    "evaluation",
    "fidelity",
    "generation",
    "interop",
    "launch",
    "planning",
    "rehearse",
    "serving",
    "training",
    "watching",
]
