"""The weights of a Hugging Face folder: safetensors or legacy `.bin`, in one file or in parts under an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from tinyllama import record_files
from tinyllama.errors import ModelError
from tinyllama.model.stored_weights import EMBEDDING, HEAD, StoredWeights

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_LEGACY, _LEGACY_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_PREFIX = "model."
# Buffers that releases of transformers before 4.32 stored; the config decides them.
_DERIVED = "rotary_emb.inv_freq"


class _Index(record_files.FileRecord):
    """The index of weights in several files."""

    weight_map: dict[str, str]
    """Name of each tensor → its file."""


JsonObject = dict[str, Any]  # config.json and indexes: keys of any release of transformers


def hub_name(name: str) -> str:
    """The name that transformers gives one of our parameters: all but the head live under `model.`."""
    return name if name == HEAD else _PREFIX + name


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights; safetensors before `.bin` where both are there.

    Raises:
        ModelError: there are none, or one that the index names is missing.
    """
    for single, index_name in ((WEIGHTS, INDEX), (_LEGACY, _LEGACY_INDEX)):
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index_name).is_file():
            index = record_files.read_record(_Index, folder / index_name, ModelError, "download the file again")
            names = sorted(set(index.weight_map.values()))
            for name in names:
                if not (folder / name).is_file():
                    raise ModelError(
                        f"{folder / name}: this part of the weights is missing, but {index_name} names it; download "
                        "the file again"
                    )
            return [folder / name for name in names]
    raise ModelError(
        f"{folder}: holds no weights: none of {WEIGHTS}, {INDEX}, {_LEGACY}, {_LEGACY_INDEX}; download them, or give "
        "another folder"
    )


def read_object(path: Path, remedy: str) -> JsonObject:
    """The JSON object in a file.

    Raises:
        ModelError: it is not there or something else.
    """
    try:
        return record_files.read_object(path, ModelError, remedy)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: the file is missing; {remedy}") from error


class FolderWeights(StoredWeights):
    """Tensors of a Hugging Face folder."""

    def __init__(self, folder: Path, *, tied: bool) -> None:
        """Read which tensors there are.

        Args:
            folder: with the weights.
            tied: whether the head is the embedding; a stored head must then be equal, and is skipped.

        Raises:
            ModelError: a file cannot be read, or a tied head differs.
        """
        self._files: dict[str, _SafetensorsFile | _LegacyFile] = {}
        for path in weight_files(folder):
            file = _SafetensorsFile(path) if path.suffix == ".safetensors" else _LegacyFile(path)
            self._files |= {name.removeprefix(_PREFIX): file for name in file.sizes if not name.endswith(_DERIVED)}
        if tied and HEAD in self._files:
            if EMBEDDING in self._files and not torch.equal(self[HEAD], self[EMBEDDING]):
                raise ModelError(
                    f"{folder}: tie_word_embeddings is true, but {HEAD} differs from {hub_name(EMBEDDING)}; "
                    "set tie_word_embeddings to false if the head is meant to be its own"
                )
            del self._files[HEAD]

    def __getitem__(self, name: str) -> Tensor:
        file = self._files[name]
        return file.read(self._stored_name(name, file))

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def size_of(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, from the file's header."""
        file = self._files[name]
        return file.sizes[self._stored_name(name, file)]

    def spelling(self, name: str) -> str:
        """The name that transformers gives it."""
        return hub_name(name)

    @staticmethod
    def _stored_name(name: str, file: _SafetensorsFile | _LegacyFile) -> str:
        """Releases of Llama's base model alone (LlamaModel) leave the prefix out."""
        return hub_name(name) if hub_name(name) in file.sizes else name


class _SafetensorsFile:
    """One file, opened for each tensor, so that no page of it stays mapped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with safe_open(path, framework="pt") as file:
                self.sizes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # a method
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: cannot be read as safetensors: {error}; download the file again") from error

    def read(self, name: str) -> Tensor:
        try:
            with safe_open(self._path, framework="pt") as file:
                tensor: Tensor = file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{self._path}: {name} cannot be read: {error}; download the file again") from error
        return tensor


class _LegacyFile:
    """One `.bin`, read as tensors alone: nothing else in the pickle is executed."""

    def __init__(self, path: Path) -> None:
        try:
            held = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
        except Exception as error:  # damage to a pickle can raise anything
            # Not torch's own text: it advises to load the file in a way that runs what is in it.
            raise ModelError(
                f"{path}: cannot be read as a file of tensors alone, and nothing else in it is opened; get the "
                "model as safetensors"
            ) from error
        if not isinstance(held, dict) or not all(
            isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in held.items()
        ):
            raise ModelError(f"{path}: holds something else than named tensors; get the model as safetensors")
        self._held: dict[str, Tensor] = held
        self.sizes = {name: tuple(tensor.shape) for name, tensor in held.items()}

    def read(self, name: str) -> Tensor:
        return self._held[name]


def _is_zip(path: Path) -> bool:
    """Whether torch 1.6 or later wrote it; older files cannot be mapped."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"
