"""The bytes of compressed files, up to the byte where one is damaged."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

DAMAGE = (EOFError, zlib.error, zstandard.ZstdError)
"""Errors that `decompress` raises for a damaged file."""

_CHUNK = 1 << 18


class _Frame(Protocol):
    """What the decompressors of both libraries have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


_NEW_FRAME: dict[str, Callable[[], _Frame]] = {
    ".jsonl.gz": lambda: zlib.decompressobj(wbits=31),
    ".jsonl.zst": lambda: zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj(),
}


def decompress(file: BinaryIO, suffix: str) -> Iterator[bytes]:
    """The content of a file of any number of compressed frames, in chunks.

    Everything before a damaged byte is yielded before the error is raised (the libraries' own file objects lose what
    they have buffered, or do not notice a truncated file).

    Args:
        file: a seekable file at its start.
        suffix: `.jsonl.gz`, `.jsonl.zst`, or another, for which the bytes are yielded as they are.

    Raises:
        EOFError: the file ends inside a frame.
        zlib.error: damaged gzip.
        zstandard.ZstdError: damaged Zstandard.
    """
    if suffix not in _NEW_FRAME:
        while data := file.read(_CHUNK):
            yield data
        return
    frame, start, within = _NEW_FRAME[suffix](), 0, True  # a compressed file has at least one frame
    while data := file.read(_CHUNK):
        end = file.tell()
        # gzip allows zeros after a frame; no frame of either format begins with one.
        while data := data if within else data.lstrip(b"\0"):
            if not within:
                frame, start, within = _NEW_FRAME[suffix](), end - len(data), True
            try:
                content = frame.decompress(data)
            except DAMAGE:
                yield from _salvage(file, suffix, start, end - len(data))
                raise
            yield content
            within, data = not frame.eof, frame.unused_data
    if within:
        raise EOFError("the file ends inside a compressed frame")


def _salvage(file: BinaryIO, suffix: str, start: int, failed: int) -> Iterator[bytes]:
    """The content of a frame after the part that was decompressed: its bytes are fed one by one until one fails.

    Args:
        file: the file.
        suffix: its format.
        start: offset of the frame.
        failed: offset of the chunk that could not be decompressed; the content before it was yielded already.
    """
    frame = _NEW_FRAME[suffix]()
    file.seek(start)
    while file.tell() < failed:
        frame.decompress(file.read(min(_CHUNK, failed - file.tell())))
    for byte in file.read(_CHUNK):
        try:
            yield frame.decompress(bytes([byte]))
        except DAMAGE:
            return
