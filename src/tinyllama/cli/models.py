"""A model and its tokenizer from what a person points at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.corpus.tokenizer import TextTokenizer
from tinyllama.engine.weights import load_run
from tinyllama.model.folder import load_folder

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.model import Llama


def open_model(path: Path) -> tuple[Llama, TextTokenizer]:
    """Load an exported folder, or the newest checkpoint of a run inside its family's folder.

    Raises:
        ModelError: it is neither.
        CorpusError: its tokenizer.model is missing.
    """
    if (path / "config.json").is_file():
        return load_folder(path), TextTokenizer(path / "tokenizer.model")
    return load_run(path), TextTokenizer(path.parent / "tokenizer" / "tokenizer.model")
