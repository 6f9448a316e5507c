"""The bytes of compressed files, up to the byte where one is damaged."""

from __future__ import annotations

import bz2
import lzma
import zlib
from pathlib import PurePath
from typing import TYPE_CHECKING, Protocol

import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

DAMAGE = (EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError)
"""Errors that `decompress` raises for a damaged file."""

_CHUNK = 1 << 18


class _Frame(Protocol):
    """What the decompressors of all libraries have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


class _Bz2Frame:
    """A bzip2 frame whose damage has an error of its own, not one of the file system."""

    def __init__(self) -> None:
        self._frame = bz2.BZ2Decompressor()

    @property
    def eof(self) -> bool:
        return self._frame.eof

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data

    def decompress(self, data: bytes, /) -> bytes:
        try:
            return self._frame.decompress(data)
        except OSError as error:
            raise EOFError(str(error)) from error


_NEW_FRAME: dict[str, Callable[[], _Frame]] = {
    ".gz": lambda: zlib.decompressobj(wbits=31),
    ".zst": lambda: zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj(),
    ".bz2": _Bz2Frame,
    ".xz": lzma.LZMADecompressor,
}

COMPRESSED_SUFFIXES = tuple(_NEW_FRAME)
"""Suffixes of the compressed files that can be read."""


def decompress(file: BinaryIO, suffix: str) -> Iterator[bytes]:
    """The content of a file of any number of compressed frames, in chunks.

    Everything before a damaged byte is yielded before the error is raised (the libraries' own file objects lose what
    they have buffered, or do not notice a truncated file).

    Args:
        file: a seekable file at its start.
        suffix: its suffix, of which the last part names the compression; with another, the bytes are yielded as they
            are.

    Raises:
        EOFError: the file ends inside a frame, or damaged bzip2.
        lzma.LZMAError: damaged XZ.
        zlib.error: damaged gzip.
        zstandard.ZstdError: damaged Zstandard.
    """
    compression = PurePath(f"x{suffix}").suffix
    if compression not in _NEW_FRAME:
        while data := file.read(_CHUNK):
            yield data
        return
    new_frame = _NEW_FRAME[compression]
    frame, start, within = new_frame(), 0, True  # a compressed file has at least one frame
    while data := file.read(_CHUNK):
        end = file.tell()
        # gzip and XZ allow zeros after a frame; no frame of any format begins with one.
        while data := data if within else data.lstrip(b"\0"):
            if not within:
                frame, start, within = new_frame(), end - len(data), True
            try:
                content = frame.decompress(data)
            except DAMAGE:
                yield from _salvage(file, new_frame, start, end - len(data))
                raise
            yield content
            within, data = not frame.eof, frame.unused_data
    if within:
        raise EOFError("the file ends inside a compressed frame")


def _salvage(file: BinaryIO, new_frame: Callable[[], _Frame], start: int, failed: int) -> Iterator[bytes]:
    """The content of a frame after the part that was decompressed: its bytes are fed one by one until one fails.

    Args:
        file: the file.
        new_frame: a decompressor of its format.
        start: offset of the frame.
        failed: offset of the chunk that could not be decompressed; the content before it was yielded already.
    """
    frame = new_frame()
    file.seek(start)
    while file.tell() < failed:
        frame.decompress(file.read(min(_CHUNK, failed - file.tell())))
    for byte in file.read(_CHUNK):
        try:
            yield frame.decompress(bytes([byte]))
        except DAMAGE:
            return
