"""A model and its tokenizer from what a person points at: a run, a checkpoint, a folder, a file, a hub name."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import torch

from tinyllama.checkpoint.format import STATE, verify
from tinyllama.checkpoint.store import checkpoint_store
from tinyllama.checkpoint.weights import load_model, newest_checkpoint
from tinyllama.errors import CorpusError, ModelError
from tinyllama.files import sha256_file, sha256_json
from tinyllama.formats.gguf.file import GgufFile, is_gguf
from tinyllama.formats.gguf.tensors import load_gguf
from tinyllama.formats.gguf.tokenizer import write_gguf_tokenizer
from tinyllama.formats.huggingface.config import CONFIG, load_folder, read_config
from tinyllama.formats.huggingface.tensors import weight_files
from tinyllama.hub import HUB_ID, fetch_model
from tinyllama.layout import family_of_run
from tinyllama.recipe import load_recipe
from tinyllama.tokenizer.json_file import SETTINGS, TOKENIZER_JSON, JsonTokenizer
from tinyllama.tokenizer.opening import open_tokenizer
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer

if TYPE_CHECKING:
    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer

_TOKENIZER_MODEL = "tokenizer.model"


class ModelSource(Protocol):
    """Something a model can be loaded from."""

    name: str
    """What a person calls it."""

    def load(self, dtype: torch.dtype = torch.float32) -> Llama:
        """The model in evaluation, its weights converted."""

    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""

    def facts(self) -> dict[str, Any]:
        """What identifies it: kind, SHA-256 of the weights, BOS policy, and what is known of its training."""


def find_model(given: Path | str) -> ModelSource:
    """What a person points at: a Hugging Face folder, a GGUF file, a checkpoint, a run's folder, or a hub id.

    Every kind of model that can be read is decided here.

    Raises:
        ModelError: it is none of them, or the hub does not have it or cannot be reached.
    """
    path = Path(given)
    if is_gguf(path):
        return _Gguf(path)
    if (path / CONFIG).is_file():
        return _Folder(path, str(given))
    if (path / STATE).is_file():
        return _Saved(path, path.parent.parent)
    if not path.exists() and HUB_ID.fullmatch(str(given)):
        return _Folder(fetch_model(str(given)), str(given))
    return _Saved(None, path)


class _Folder:
    """A Hugging Face folder, exported by us or by others."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self.name = path, name

    def load(self, dtype: torch.dtype = torch.float32) -> Llama:
        """Its weights, converted."""
        return load_folder(self._path, dtype).eval().requires_grad_(requires_grad=False)

    def tokenizer(self) -> Tokenizer:
        """SentencePiece where the folder has such a model, else tokenizer.json."""
        if (self._path / _TOKENIZER_MODEL).is_file():
            try:
                return SentencePieceTokenizer(self._path / _TOKENIZER_MODEL)
            except CorpusError:  # some families call another format by that name
                if not (self._path / TOKENIZER_JSON).is_file():
                    raise
        return JsonTokenizer(self._path / TOKENIZER_JSON)

    def facts(self) -> dict[str, Any]:
        """SHA-256 over config and weights; BOS as the folder's tokenizer adds it, which is lm-eval's default."""
        files = [self._path / CONFIG, *weight_files(self._path)]
        return {
            "kind": "folder",
            "sha256": sha256_json({path.name: sha256_file(path) for path in files}),
            "bos": self._adds_bos(),
            "stored_dtype": read_config(self._path).get("torch_dtype") or read_config(self._path).get("dtype"),
        }

    def _adds_bos(self) -> bool:
        if (self._path / TOKENIZER_JSON).is_file():
            return JsonTokenizer(self._path / TOKENIZER_JSON).adds_bos
        settings = self._path / SETTINGS
        return (
            bool(json.loads(settings.read_text(encoding="utf-8")).get("add_bos_token", True))
            if settings.is_file()
            else True
        )


class _Gguf:
    """A GGUF file, ours or others', whatever its tensors are quantized to."""

    def __init__(self, path: Path) -> None:
        self._file, self.name = GgufFile(path), path.stem

    def load(self, dtype: torch.dtype = torch.float32) -> Llama:
        """Its weights, dequantized and converted."""
        return load_gguf(self._file, dtype).eval().requires_grad_(requires_grad=False)

    def tokenizer(self) -> Tokenizer:
        """The one inside the file."""
        with TemporaryDirectory() as folder:
            write_gguf_tokenizer(self._file, Path(folder))
            tokenizer = open_tokenizer(Path(folder))
            _ = tokenizer.sha256  # kept by the object; the files are gone afterwards
        return tokenizer

    def facts(self) -> dict[str, Any]:
        """SHA-256 of the file; BOS as its tokenizer adds it; the types of its tensors."""
        types = sorted({tensor.tensor_type.name for tensor in self._file.tensors.values()})
        return {
            "kind": "gguf",
            "sha256": sha256_file(self._file.path),
            "bos": self.tokenizer().adds_bos,
            "stored_dtype": "+".join(types),
        }


class _Saved:
    """A checkpoint inside a run's folder, inside its family's: `runs/<recipe>/<run>/checkpoints/step-<n>`."""

    def __init__(self, folder: Path | None, run: Path) -> None:
        recipe_file = family_of_run(run).recipe
        if not recipe_file.is_file():
            raise ModelError(
                f"{run}: no model is here: neither a folder with {CONFIG}, nor a checkpoint ({STATE}), nor a run of a "
                f"family ({recipe_file})"
            )
        self._run, self._recipe = run, load_recipe(str(recipe_file))
        self._checkpoint: Checkpoint = (
            newest_checkpoint(checkpoint_store(self._recipe, run.parent, run.name))
            if folder is None
            else verify(folder)
        )
        self.name = f"{run.parent.name}/{run.name}/{self._checkpoint.folder.name}"

    def load(self, dtype: torch.dtype = torch.float32) -> Llama:
        """Its fp32 master weights, converted."""
        return load_model(self._checkpoint, self._recipe.model, dtype)

    def tokenizer(self) -> Tokenizer:
        """The family's."""
        return open_tokenizer(family_of_run(self._run).tokenizer)

    def facts(self) -> dict[str, Any]:
        """SHA-256 of the checkpoint's manifest, which holds those of its files; BOS as the recipe trained it."""
        state = self._checkpoint.state
        return {
            "kind": "checkpoint",
            "sha256": sha256_file(self._checkpoint.folder / "manifest.json"),
            "bos": self._recipe.tokenizer.bos,
            "stored_dtype": "float32",
            "recipe": self._recipe.name,
            "run": state.run,
            "tokens": state.tokens,
            "fingerprint": state.fingerprint,
        }
