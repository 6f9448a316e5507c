"""The application with all commands: each module registers its commands on import."""

from tinyllama.cli import (
    corpora,
    corpus,
    design,
    doctor,
    evaluation,
    fidelity,
    following,
    generation,
    interop,
    launch,
    planning,
    recipe_files,
    serving,
    training,
)
from tinyllama.cli.app import app

__all__ = [
    "app",
    "corpora",
    "corpus",
    "design",
    "doctor",
    "evaluation",
    "fidelity",
    "following",
    "generation",
    "interop",
    "launch",
    "planning",
    "recipe_files",
    "serving",
    "training",
]
