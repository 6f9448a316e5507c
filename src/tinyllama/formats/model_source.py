"""A model on disk, whatever its format: its shape, weights, tokenizer and identity under one interface."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from tinyllama.checkpoint.format import MANIFEST
from tinyllama.checkpoint.weights import CheckpointWeights
from tinyllama.errors import CorpusError, ModelError
from tinyllama.files import sha256_file, sha256_json
from tinyllama.folders import FolderKind, holds_only, replaced_folder
from tinyllama.formats.gguf.file import GgufFile
from tinyllama.formats.gguf.tensors import GgufWeights, shape_of_gguf
from tinyllama.formats.gguf.tokenizer import write_gguf_tokenizer
from tinyllama.formats.huggingface.config import CONFIG, read_config, shape_of_config, stored_dtype
from tinyllama.formats.huggingface.tensors import FolderWeights, read_object, weight_files
from tinyllama.formats.identity import ModelIdentity
from tinyllama.layout import averaged
from tinyllama.model.stored_weights import build_model, check_weights
from tinyllama.tokenizer.end_ids import GENERATION_CONFIG
from tinyllama.tokenizer.json_file import SETTINGS, TOKENIZER_JSON, JsonTokenizer
from tinyllama.tokenizer.opening import TOKENIZER_FILES, open_tokenizer
from tinyllama.tokenizer.sentencepiece_file import TOKENIZER_MODEL

if TYPE_CHECKING:
    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.layout import FamilyLayout
    from tinyllama.model import Llama
    from tinyllama.model.stored_weights import StoredWeights
    from tinyllama.recipe import ModelShape, Recipe
    from tinyllama.tokenizer.base import Tokenizer

_TOKENIZER = FolderKind("a tokenizer", TOKENIZER_FILES, lambda folder: holds_only(TOKENIZER_FILES, folder))
_UNKNOWN_LICENSE = "other"
"""What the hub calls a license that nobody stated."""


class OpenModel(ABC):
    """A model on disk; nothing large is in memory until its weights are read."""

    name: str
    """What reports call it; equal for the same model in the same place."""
    origin: str
    """What the caller named it by, for messages."""
    title: str
    """A short name for new files."""
    path: Path
    """The file or folder that holds the weights."""
    shape: ModelShape
    checkpoint: Checkpoint | None = None
    """The verified checkpoint, if it is one of ours; it may hold moments too."""
    license = _UNKNOWN_LICENSE
    generation_config: Path | None = None
    """The file in which the model's authors may state how they sample from it."""
    read_by_transformers = True
    """Whether transformers reads the format too, so that its logits can be compared with ours."""
    shape_stated_in: str
    """What states the shape, for messages."""

    def load(self, dtype: torch.dtype = torch.float32) -> Llama:
        """Build the model for inference, its weights converted to `dtype`; the stored precision does not matter.

        Raises:
            ModelError: tensors are missing, unexpected or of another shape.
        """
        return build_model(self.shape, self.checked_weights(), dtype)

    def checked_weights(self) -> StoredWeights:
        """The weights, compared with the shape.

        Raises:
            ModelError: tensors are missing, unexpected or of another shape.
        """
        check_weights(self.weights, self.shape, str(self.path), self.shape_stated_in)
        return self.weights

    @cached_property
    @abstractmethod
    def weights(self) -> StoredWeights:
        """The weights by our names, each read when it is asked for."""

    @cached_property
    @abstractmethod
    def weights_sha256(self) -> str:
        """SHA-256 of the files that hold the weights."""

    @property
    @abstractmethod
    def adds_bos(self) -> bool:
        """Whether prompts begin with BOS: what its tokenizer does, or what its recipe trained."""

    @abstractmethod
    def identity(self) -> ModelIdentity:
        """What distinguishes it; reads all weights once, to hash them."""

    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """Open its tokenizer.

        Raises:
            CorpusError: there is none, or it is of a kind that we do not read.
        """

    @property
    @abstractmethod
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer comes with it."""

    def write_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer that comes with the model to a folder, completely or not at all.

        Raises:
            ModelError: none comes with it.
            CorpusError: it is of a kind that we do not read.
        """
        with replaced_folder(folder, _TOKENIZER, CorpusError) as partial:
            if not self.has_tokenizer:
                raise ModelError(f"{self.origin}: comes without a tokenizer; name one in the recipe")
            self._write_tokenizer(partial)

    @abstractmethod
    def _write_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer's files."""


class HuggingFaceModel(OpenModel):
    """A Hugging Face folder, exported by us or by others."""

    shape_stated_in = CONFIG

    def __init__(self, path: Path, name: str) -> None:
        """Read the folder's config.

        Raises:
            ModelError: it cannot be read or describes a model that is not a plain Llama.
        """
        self.path, self.name, self.origin, self.title = path, name, name, Path(name).name or path.name
        self.generation_config = path / GENERATION_CONFIG
        self._config = read_config(path)
        self.shape = shape_of_config(self._config, path / CONFIG)

    @cached_property
    def weights(self) -> StoredWeights:
        """Its tensors."""
        return FolderWeights(self.path, tied=self.shape.tied_embeddings)

    @cached_property
    def weights_sha256(self) -> str:
        """Of the names and hashes of its weight files."""
        return sha256_json({part.name: sha256_file(part) for part in weight_files(self.path)})

    @cached_property
    def adds_bos(self) -> bool:
        """What the folder's tokenizer does, which is lm-eval's default too."""
        if (self.path / TOKENIZER_JSON).is_file():
            return JsonTokenizer(self.path / TOKENIZER_JSON).adds_bos
        settings = self.path / SETTINGS
        if not settings.is_file():
            return True
        return bool(read_object(settings, "download the file again").get("add_bos_token", True))

    def identity(self) -> ModelIdentity:
        """Its hash covers config and weights."""
        files = [self.path / CONFIG, *weight_files(self.path)]
        return ModelIdentity(
            kind="folder",
            sha256=sha256_json({path.name: sha256_file(path) for path in files}),
            adds_bos=self.adds_bos,
            stored_dtype=stored_dtype(self._config),
            parameters=self.shape.parameters,
        )

    def tokenizer(self) -> Tokenizer:
        """`tokenizer.model` if it is a SentencePiece model, else `tokenizer.json`."""
        try:
            return open_tokenizer(self.path)
        except CorpusError:  # some families call another format tokenizer.model
            if not (self.path / TOKENIZER_JSON).is_file():
                raise
        return JsonTokenizer(self.path / TOKENIZER_JSON)

    @property
    def has_tokenizer(self) -> bool:
        """Whether the folder holds tokenizer files."""
        return _holds_tokenizer(self.path)

    def _write_tokenizer(self, folder: Path) -> None:
        _copy_tokenizer(self.path, folder)


class GgufModel(OpenModel):
    """A GGUF file, whatever its tensors are quantized to."""

    shape_stated_in = "its metadata"

    def __init__(self, path: Path, origin: str) -> None:
        """Read the file's metadata.

        Raises:
            ModelError: it is damaged or describes a model that is not a plain Llama.
        """
        self._file = GgufFile(path)
        self.path, self.name, self.origin, self.title = self._file.path, path.stem, origin, path.stem
        self.shape = shape_of_gguf(self._file)

    @cached_property
    def weights(self) -> StoredWeights:
        """Its tensors, dequantized."""
        return GgufWeights(self._file, self.shape)

    @cached_property
    def weights_sha256(self) -> str:
        """Of the file, or of the names and hashes of its parts."""
        if len(self._file.parts) == 1:
            return sha256_file(self.path)
        return sha256_json({part.name: sha256_file(part) for part in self._file.parts})

    @property
    def adds_bos(self) -> bool:
        """What the tokenizer in the file does."""
        return self.tokenizer().adds_bos

    @property
    def stored_dtypes(self) -> tuple[str, ...]:
        """Types of its tensors, in GGUF's names."""
        return tuple(sorted({tensor.tensor_type.name for tensor in self._file.tensors.values()}))

    def identity(self) -> ModelIdentity:
        """Its hash covers the file."""
        types = "+".join(self.stored_dtypes)
        return ModelIdentity("gguf", self.weights_sha256, self.adds_bos, types, parameters=self.shape.parameters)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer inside the file."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        with TemporaryDirectory() as folder:
            write_gguf_tokenizer(self._file, Path(folder))
            tokenizer = open_tokenizer(Path(folder))
            _ = tokenizer.sha256  # computed while the files are there; the object keeps it
        return tokenizer

    @property
    def has_tokenizer(self) -> bool:
        """Whether the metadata holds one."""
        return self._file.holds("tokenizer.ggml.model")

    def _write_tokenizer(self, folder: Path) -> None:
        write_gguf_tokenizer(self._file, folder)


class CheckpointModel(OpenModel):
    """A checkpoint of a family's model, with its family's recipe and tokenizer."""

    checkpoint: Checkpoint
    read_by_transformers = False
    shape_stated_in = "the recipe's model"

    def __init__(self, checkpoint: Checkpoint, recipe: Recipe, model: str, family: FamilyLayout, origin: str) -> None:
        """Bind a checkpoint that was verified.

        Args:
            checkpoint: the model's.
            recipe: the family's.
            model: its name in the family.
            family: where the family's files lie.
            origin: what the caller named it by.
        """
        self.checkpoint, self.recipe, self.model, self.family = checkpoint, recipe, model, family
        self.path, self.license = checkpoint.folder, recipe.license
        self.shape = recipe.shape_at(averaged(checkpoint.state.run), checkpoint.state.tokens)
        self.name = f"{family.root.absolute().name}/{model}/{checkpoint.folder.name}"
        self.origin, self.title = origin, f"{recipe.name}-{model}"

    @cached_property
    def weights(self) -> StoredWeights:
        """Its fp32 weights, without moments."""
        return CheckpointWeights(self.checkpoint)

    @cached_property
    def weights_sha256(self) -> str:
        """Of the checkpoint's manifest, which holds the hashes of its files."""
        return sha256_file(self.path / MANIFEST)

    @property
    def adds_bos(self) -> bool:
        """Whether the recipe's documents begin with BOS."""
        return self.recipe.tokenizer.bos

    def identity(self) -> ModelIdentity:
        """Its hash is the manifest's."""
        state = self.checkpoint.state
        return ModelIdentity(
            kind="checkpoint",
            sha256=self.weights_sha256,
            adds_bos=self.adds_bos,
            stored_dtype="float32",
            recipe=self.recipe.name,
            model=state.run,
            step=self.checkpoint.step,
            tokens=state.tokens,
            fingerprint=state.fingerprint,
            parameters=self.shape.parameters,
        )

    def tokenizer(self) -> Tokenizer:
        """The family's tokenizer."""
        return open_tokenizer(self.family.tokenizer)

    @property
    def has_tokenizer(self) -> bool:
        """Whether the family's tokenizer is there."""
        return _holds_tokenizer(self.family.tokenizer)

    def _write_tokenizer(self, folder: Path) -> None:
        _copy_tokenizer(self.family.tokenizer, folder)


def _holds_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (TOKENIZER_MODEL, TOKENIZER_JSON))


def _copy_tokenizer(source: Path, folder: Path) -> None:
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
