"""A model and its tokenizer from what a person points at."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tinyllama.corpus.gguf_tokenizer import write_gguf_tokenizer
from tinyllama.corpus.tokenizer import open_tokenizer
from tinyllama.engine.weights import load_run
from tinyllama.gguf_file import GgufFile, is_gguf
from tinyllama.model.folder import load_folder
from tinyllama.model.gguf import load_gguf

if TYPE_CHECKING:
    from tinyllama.corpus.tokenizer import TextTokenizer
    from tinyllama.model import Llama


def open_model(path: Path) -> tuple[Llama, TextTokenizer]:
    """Load a Hugging Face folder, a GGUF file, or the newest checkpoint of a run inside its family's folder.

    Raises:
        ModelError: it is none of them.
        CorpusError: its tokenizer is missing.
    """
    if is_gguf(path):
        file = GgufFile(path)
        with TemporaryDirectory() as folder:
            write_gguf_tokenizer(file, Path(folder))
            return load_gguf(file), open_tokenizer(Path(folder))
    if (path / "config.json").is_file():
        return load_folder(path), open_tokenizer(path)
    return load_run(path), open_tokenizer(path.parent / "tokenizer")
