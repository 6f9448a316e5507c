"""The application with all commands: each module registers its commands on import."""

from tinyllama.cli import (
    corpora,
    doctor,
    evaluation,
    fidelity,
    generation,
    interop,
    launch,
    planning,
    recipe_files,
    rehearse,
    serving,
    studio,
    training,
    watch,
)
from tinyllama.cli.app import app

__all__ = [
    "app",
    "corpora",
    "doctor",
    "evaluation",
    "fidelity",
    "generation",
    "interop",
    "launch",
    "planning",
    "recipe_files",
    "rehearse",
    "serving",
    "studio",
    "training",
    "watch",
]
