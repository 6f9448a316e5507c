"""Continuations of the recipe's prompts: the format of evaluation/samples.json."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.errors import ModelError
from tinyllama.record_files import FileRecord, read_record

if TYPE_CHECKING:
    from pathlib import Path

Samples = dict[str, dict[str, str]]
"""Prompt → model → text."""


class SamplesFile(FileRecord):
    """The content of samples.json."""

    format: int = 1
    inputs: str
    """Hash of the prompts and of the models' weights; the texts are reused while it is unchanged."""
    samples: Samples


def read_samples(path: Path) -> SamplesFile:
    """Read samples.json.

    Raises:
        FileNotFoundError: the file does not exist.
        ModelError: the file cannot be read or has a wrong key; the message names file and key.
    """
    return read_record(SamplesFile, path, ModelError, "run `tinyllama report` again")
