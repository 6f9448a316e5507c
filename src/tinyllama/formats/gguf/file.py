"""GGUF files through the `gguf` package: opening them, and reading their metadata as plain values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from tinyllama.errors import ModelError
from tinyllama.installation import install_hint
from tinyllama.record_files import first_problem

if TYPE_CHECKING:
    from pathlib import Path

    from gguf import GGUFReader, ReaderTensor

_PART = re.compile(r"(?P<name>.+)-\d{5}-of-(?P<count>\d{5})\.gguf", re.DOTALL)
_Value = TypeVar("_Value")
_Default = TypeVar("_Default")


def is_gguf(path: Path) -> bool:
    """Whether a path is a file that begins as GGUF does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def parts_of(path: Path) -> list[Path]:
    """All parts of a GGUF file, in order, by the name of any of them: `NAME-00001-of-00003.gguf`."""
    if (match := _PART.fullmatch(path.name)) is None:
        return [path]
    name, count = match["name"], int(match["count"])
    return [path.with_name(f"{name}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)]


class GgufFile:
    """The metadata of a GGUF file, in one part or several, and its tensors' places; tensors are mapped, not read."""

    def __init__(self, path: Path) -> None:
        """Open a file.

        Args:
            path: the file, or any of its parts.

        Raises:
            ModelError: the `gguf` package is not installed, or the file is damaged, cut off or lacks a part.
        """
        try:
            from gguf import GGUFReader  # an extra
        except ImportError:
            raise ModelError(f"{path}: reading GGUF needs an extra: {install_hint('gguf')}") from None
        self.parts = parts_of(path)
        self.path = self.parts[0]
        """The first part, which holds the metadata."""
        self.tensors: dict[str, ReaderTensor] = {}
        for part in reversed(self.parts):
            if len(self.parts) > 1 and not part.is_file():
                raise ModelError(f"{part}: this part of a GGUF file is not there; download it too")
            try:
                self._reader: GGUFReader = GGUFReader(part)
            except (OSError, ValueError, LookupError, OverflowError, TypeError) as error:
                raise ModelError(f"{part}: cannot be read as GGUF: {error}; download the file again") from error
            if (count := self.get("split.count", int, 1)) not in {len(self.parts), 0}:
                raise ModelError(
                    f"{part}: is one of {count} parts; give all of them the names that they were published with, "
                    "which end in -00001-of-00002.gguf and so on"
                )
            self.tensors |= {tensor.name: tensor for tensor in self._reader.tensors}

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
