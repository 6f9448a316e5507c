"""What a person names as a model: a Hugging Face folder or hub id, a GGUF file, or a checkpoint of ours."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tinyllama.checkpoint.format import MANIFEST, STATE, Checkpoint, verify
from tinyllama.checkpoint.weights import CheckpointWeights
from tinyllama.errors import ModelError
from tinyllama.files import new_directory, sha256_file, sha256_json
from tinyllama.formats.gguf.file import GgufFile, is_gguf
from tinyllama.formats.gguf.tensors import GgufWeights, shape_of_gguf
from tinyllama.formats.gguf.tokenizer import write_gguf_tokenizer
from tinyllama.formats.huggingface.config import CONFIG, read_config, shape_of_config
from tinyllama.formats.huggingface.tensors import FolderWeights, weight_files
from tinyllama.hub import HUB_ID, fetch_model
from tinyllama.layout import family_of_checkpoint
from tinyllama.recipe import load_recipe
from tinyllama.tokenizer.chat_template import TEMPLATE_FILE

if TYPE_CHECKING:
    from tinyllama.model.stored_weights import StoredWeights
    from tinyllama.recipe import ModelShape

_TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", TEMPLATE_FILE)


@dataclass(frozen=True)
class Source:
    """A model on disk that can be imported."""

    origin: str
    """What the person named."""
    path: Path
    """Where it is."""
    shape: ModelShape
    weights: StoredWeights
    sha256: str
    """Of the files that hold the weights."""
    gguf: GgufFile | None = None
    """If it is one."""
    checkpoint: Checkpoint | None = None
    """If it is one of a run of ours, which holds moments too."""

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer comes with the model."""
        if self.gguf is not None:
            return self.gguf.get("tokenizer.ggml.model") is not None
        return any((self._tokenizer_folder / name).is_file() for name in _TOKENIZER_FILES[:2])

    @property
    def _tokenizer_folder(self) -> Path:
        return self.path if self.checkpoint is None else family_of_checkpoint(self.path).tokenizer

    def write_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer that comes with the model to a folder, whole or not at all.

        Raises:
            ModelError: none comes with it.
            CorpusError: it is of a kind that we do not read.
        """
        with new_directory(folder) as beside:
            if self.gguf is not None:
                write_gguf_tokenizer(self.gguf, beside)
                return
            if not self.has_tokenizer:
                raise ModelError(f"{self.origin}: comes without a tokenizer; name one in the recipe")
            for name in _TOKENIZER_FILES:
                if (self._tokenizer_folder / name).is_file():
                    shutil.copyfile(self._tokenizer_folder / name, beside / name)


def open_source(name: str) -> Source:
    """Find and open a model; its weights are read later, tensor by tensor.

    Raises:
        ModelError: it is not there, is damaged, or has an architecture that we do not support.
        CheckpointError: it is a checkpoint of ours that is damaged.
    """
    path = Path(name)
    if is_gguf(path):
        file = GgufFile(path)
        shape = shape_of_gguf(file)
        return Source(name, path, shape, GgufWeights(file, shape), sha256_file(path), gguf=file)
    if (path / MANIFEST).is_file() and (path / STATE).is_file():
        return _open_checkpoint(name, path)
    if not path.exists() and HUB_ID.fullmatch(name):
        path = fetch_model(name)
    if not (path / CONFIG).is_file():
        raise ModelError(
            f"{name}: no model is here; give a Hugging Face folder (with {CONFIG}) or hub id, a GGUF file, or a "
            "checkpoint …/checkpoints/step-<n> of a run"
        )
    shape = shape_of_config(read_config(path))
    hashes = {part.name: sha256_file(part) for part in weight_files(path)}
    return Source(name, path, shape, FolderWeights(path, tied=shape.tied_embeddings), sha256_json(hashes))


def _open_checkpoint(name: str, path: Path) -> Source:
    recipe_file = family_of_checkpoint(path).recipe
    if not recipe_file.is_file():
        raise ModelError(f"{path}: the checkpoint is not inside its family's folder ({recipe_file} is missing)")
    checkpoint = verify(path.resolve())
    shape = load_recipe(str(recipe_file)).model
    sha256 = sha256_file(path / MANIFEST)
    return Source(name, checkpoint.folder, shape, CheckpointWeights(checkpoint), sha256, checkpoint=checkpoint)
