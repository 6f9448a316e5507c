"""GGUF files through the `gguf` package: opening them, and reading their metadata as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from tinyllama.errors import ModelError
from tinyllama.installation import install_hint
from tinyllama.record_files import first_problem

if TYPE_CHECKING:
    from pathlib import Path

    from gguf import GGUFReader, ReaderTensor

_Value = TypeVar("_Value")
_Default = TypeVar("_Default")


def is_gguf(path: Path) -> bool:
    """Whether a path is a file that begins as GGUF does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


class GgufFile:
    """A GGUF file's metadata and its tensors' places; tensors are mapped, not read."""

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            ModelError: the `gguf` package is not installed, or the file is damaged, cut off or one part of several.
        """
        try:
            from gguf import GGUFReader  # an extra
        except ImportError:
            raise ModelError(f"{path}: reading GGUF needs an extra: {install_hint('gguf')}") from None
        self.path = path
        try:
            self._reader: GGUFReader = GGUFReader(path)
        except (OSError, ValueError, LookupError, OverflowError, TypeError) as error:
            raise ModelError(f"{path}: cannot be read as GGUF: {error}; download the file again") from error
        if self.get("split.count", int, 1) > 1:
            raise ModelError(
                f"{path}: is one of several parts; join them first with llama.cpp's llama-gguf-split --merge"
            )
        self.tensors: dict[str, ReaderTensor] = {tensor.name: tensor for tensor in self._reader.tensors}

    def holds(self, key: str) -> bool:
        """Whether the metadata has a key."""
        return self._reader.get_field(key) is not None

    def get(self, key: str, kind: type[_Value], default: _Default) -> _Value | _Default:
        """The value under a metadata key, or `default` if the key is missing.

        Numbers of 32 bits come back as they were written: 1e-05, not 9.999999747378752e-06.

        Args:
            key: the key.
            kind: type of the value: `int`, `float`, `bool`, `str` or a list of these.
            default: what stands for a missing key.

        Raises:
            ModelError: the value is of another type.
        """
        if not self.holds(key):
            return default
        try:
            return TypeAdapter(kind).validate_python(self._value(key), strict=True)
        except (ValueError, LookupError, TypeError) as error:
            problem = first_problem(error) if isinstance(error, ValidationError) else str(error)
            raise ModelError(f"{self.path}: {key} cannot be used ({problem}); download the file again") from error

    def require(self, key: str, kind: type[_Value]) -> _Value:
        """The value under a metadata key that must be there; arguments are those of `get`.

        Raises:
            ModelError: it is missing or of another type.
        """
        if not self.holds(key):
            raise ModelError(f"{self.path}: the key {key} is missing; it is needed to build the model")
        return cast("_Value", self.get(key, kind, None))

    def _value(self, key: str) -> object:
        from gguf import GGUFValueType

        field = self._reader.fields[key]
        if field.types == [GGUFValueType.FLOAT32]:
            return float(str(field.parts[-1][0]))
        value: object = field.contents()
        return value
