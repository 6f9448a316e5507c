"""One model of any origin as GGUF."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from tinyllama.export import ModelInfo, export_gguf
from tinyllama.formats.open import open_source
from tinyllama.tokenizer.opening import open_tokenizer


def convert_to_gguf(given: str, folder: Path, kind: str) -> None:
    """Export what `given` names as a folder with a GGUF file, checked as every export is.

    Args:
        given: a Hugging Face folder or hub id, a GGUF file, or a checkpoint of a run.
        folder: where the export goes; new, empty, or an earlier export.
        kind: F32, F16, BF16 or Q8_0.

    Raises:
        ModelError: no model of a kind that we read is there.
        CorpusError: llama.cpp does not know its tokenizer.
        ExportError: the folder is something else, cannot be written, or a check failed.
    """
    source = open_source(given)
    with TemporaryDirectory() as workspace:
        source.write_tokenizer(Path(workspace) / "tokenizer")
        export_gguf(
            source.weights,
            shape=source.shape,
            tokenizer=open_tokenizer(Path(workspace) / "tokenizer"),
            folder=folder,
            kind=kind,
            about=ModelInfo(Path(given).stem if source.gguf else Path(given).name, "other"),
        )
