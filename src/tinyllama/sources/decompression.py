"""The bytes of compressed files, up to the very byte where one is damaged."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

DAMAGE = (EOFError, zlib.error, zstandard.ZstdError)
"""What `decompress` raises for a damaged file."""

_CHUNK = 1 << 18


def decompress(file: BinaryIO, suffix: str | None) -> Iterator[bytes]:
    """The bytes of a file of any number of compressed frames, in chunks.

    All that stands before a damage is given before it is raised (the libraries' own file objects lose what they
    hold, or do not notice a file that was cut off).

    Args:
        file: at its start; one that can seek.
        suffix: `.jsonl.gz`, `.jsonl.zst`, or another, whose bytes are given as they are.

    Raises:
        EOFError: the file ends inside a frame.
        zlib.error: damaged gzip.
        zstandard.ZstdError: damaged Zstandard.
    """
    frame = _new_frame(suffix)
    if frame is None:
        while data := file.read(_CHUNK):
            yield data
        return
    start, within = 0, True  # a compressed file has at least one frame
    while data := file.read(_CHUNK):
        end = file.tell()
        # gzip allows zeros after a frame; no frame of either format begins with one.
        while data := data if within else data.lstrip(b"\0"):
            if not within:
                frame, start, within = _new_frame(suffix), end - len(data), True
            try:
                content = frame.decompress(data)
            except DAMAGE:
                yield from _salvage(file, suffix, start, end - len(data))
                raise
            yield content
            within, data = not frame.eof, frame.unused_data
    if within:
        raise EOFError("the file ends inside a compressed frame")


def _salvage(file: BinaryIO, suffix: str | None, start: int, failed: int) -> Iterator[bytes]:
    """What a frame holds after the part that was read well: its bytes are fed one by one until one fails.

    Args:
        file: the file.
        suffix: its format.
        start: where the frame begins.
        failed: where the chunk begins that could not be decompressed; what comes before it was given already.
    """
    frame = _new_frame(suffix)
    file.seek(start)
    while file.tell() < failed:
        frame.decompress(file.read(min(_CHUNK, failed - file.tell())))
    for byte in file.read(_CHUNK):
        try:
            yield frame.decompress(bytes([byte]))
        except DAMAGE:
            return


def _new_frame(suffix: str | None) -> Any:  # noqa: ANN401  # the two libraries' classes only look alike
    if suffix == ".jsonl.zst":
        return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
    return zlib.decompressobj(wbits=31) if suffix == ".jsonl.gz" else None
