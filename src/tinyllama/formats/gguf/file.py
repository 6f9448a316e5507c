"""GGUF files through the `gguf` package: opening them, and reading their metadata as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyllama.errors import ModelError
from tinyllama.installation import install_hint

if TYPE_CHECKING:
    from pathlib import Path

    from gguf import GGUFReader, ReaderTensor


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
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise ModelError(f"{path}: cannot be read as GGUF: {error}; download the file again") from error
        if self.get("split.count", 1) > 1:
            raise ModelError(
                f"{path}: is one of several parts; join them first with llama.cpp's llama-gguf-split --merge"
            )
        self.tensors: dict[str, ReaderTensor] = {tensor.name: tensor for tensor in self._reader.tensors}

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ANN401  # GGUF values are of any type
        """The value under a metadata key: a number, string, boolean or list of these.

        Numbers of 32 bits come back as they were written: 1e-05, not 9.999999747378752e-06.
        """
        from gguf import GGUFValueType

        field = self._reader.get_field(key)
        if field is None:
            return default
        value = field.contents()
        if field.types == [GGUFValueType.FLOAT32]:
            return float(str(field.parts[-1][0]))
        return value

    def require(self, key: str) -> Any:  # noqa: ANN401  # as GGUF's metadata has it: a number, text or array
        """The value under a metadata key that must be there.

        Raises:
            ModelError: it is not.
        """
        value = self.get(key)
        if value is None:
            raise ModelError(f"{self.path}: the key {key} is missing; it is needed to build the model")
        return value
