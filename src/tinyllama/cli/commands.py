"""The application with all commands: each module registers its commands on import."""

from tinyllama.cli import (
    corpora,
    design,
    evaluation,
    fidelity,
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
    "corpora",
    "design",
    "evaluation",
    "fidelity",
    "generation",
    "interop",
    "launch",
    "planning",
    "rehearse",
    "serving",
    "training",
]
