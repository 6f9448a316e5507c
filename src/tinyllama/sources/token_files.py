"""Documents out of files of token ids that other tools wrote: Megatron, datatrove, and litgpt's packed files.

| files | written by | documents are divided by |
|---|---|---|
| `X.bin`, `X.idx` | Megatron-LM's `IndexedDataset`, version 1 of its index | the index |
| `X.ds`, `X.ds.index` | datatrove's `DocumentTokenizer` | the index |
| `NAME_0000000000.bin`, … | `PackedDatasetBuilder` of lit-gpt and TinyLlama, version 1 | BOS before, or EOS after |

The layouts are those of megatron-core 0.16, datatrove 0.10, and lit-gpt before it took up litdata.
"""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinyllama.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tinyllama.sources.files import SourceFile
    from tinyllama.tokenizer.base import Tokenizer

_SUFFIXES = (".bin", ".ds")
_COMPARED = 8
"""Number of documents of a file whose text is encoded again, to check that the ids are the tokenizer's."""

MEGATRON_HEADER = b"MMIDIDX\x00\x00"
MEGATRON_VERSION = 1
MEGATRON_CODES = {1: "<u1", 2: "<i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
"""Megatron's codes of integer types."""

_PACKED_HEADER = b"LITPKDS"
_PACKED_VERSION = 1
_PACKED_BYTES = 24
"""Size of the header: name (7 bytes), version (8), code of the type (1), number of ids in the file (8)."""
_PACKED_CODES = {1: "<u1", 2: "<i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
_PACKED_NAME = re.compile(r"(.*_)(\d{10})(\.bin)", re.DOTALL)


class Special(NamedTuple):
    """Ids that delimit documents."""

    bos: int
    eos: int


class TokenDocument(NamedTuple):
    """The ids of a document."""

    number: int
    """Index among the documents that begin in the file, from 0."""
    ids: NDArray[np.int64]
    """The ids, with BOS and EOS where the file has them."""


def spell_documents(file: SourceFile, tokenizer: Tokenizer) -> Iterator[tuple[int, str]]:
    """The documents of a file of token ids as text, each with its number.

    Args:
        file: a file of ids of this tokenizer.
        tokenizer: the family's tokenizer.

    Raises:
        CorpusError: most of the first documents show that the ids are another tokenizer's; or see
            `read_token_documents`.
        OSError: the file or its index cannot be read.
    """
    special = Special(tokenizer.bos_id, tokenizer.eos_id)
    seen = same = 0
    for number, ids in read_token_documents(file, special):
        if len(ids) and not 0 <= ids.min() <= ids.max() < tokenizer.vocab_size:
            raise _foreign(file)
        plain = ids[(ids != special.bos) & (ids != special.eos)].tolist()
        text = tokenizer.decode(plain)
        if seen < _COMPARED and plain:
            seen, same = seen + 1, same + (tokenizer.encode([text])[0] == plain)
        if seen == _COMPARED and 2 * same < seen:
            raise _foreign(file)
        yield number, text
    if 2 * same < seen:
        raise _foreign(file)


def _foreign(file: SourceFile) -> CorpusError:
    return CorpusError(
        f"{file.origin}: its ids are not those of the family's tokenizer; name the tokenizer that they were made with "
        "in the recipe (tokenizer.file), or give the text instead"
    )


def is_token_file(name: str) -> bool:
    """Whether the name of a file says that it holds token ids."""
    return name.endswith(_SUFFIXES)


def read_token_documents(file: SourceFile, special: Special) -> Iterator[TokenDocument]:
    """The documents of a file of token ids, in order.

    A document may continue in the next packed file; it belongs to the file that it begins in.

    Raises:
        CorpusError: the layout of the file is not known, or the file contradicts its index.
        OSError: the file or its index cannot be read.
    """
    if file.origin.endswith(".ds"):
        return _read_indexed(file, *_datatrove_index(file))
    with file.open() as opened:
        packed = opened.read(len(_PACKED_HEADER)) == _PACKED_HEADER
    return _read_packed(file, special) if packed else _read_indexed(file, *_megatron_index(file))


def _read_indexed(file: SourceFile, ends: NDArray[np.int64], dtype: np.dtype[Any]) -> Iterator[TokenDocument]:
    """Documents that end at token `ends`."""
    if int(ends[-1] if len(ends) else 0) * dtype.itemsize != file.bytes:
        raise CorpusError(
            f"{file.origin}: has {file.bytes} bytes, but its index counts {int(ends[-1] if len(ends) else 0)} ids of "
            f"{dtype.itemsize} bytes; one of the two is truncated or belongs to another file"
        )
    with file.open() as opened:
        for index, (start, end) in enumerate(pairwise([0, *ends.tolist()])):
            data = opened.read((end - start) * dtype.itemsize)
            yield TokenDocument(index, np.frombuffer(data, dtype).astype(np.int64))


def _datatrove_index(file: SourceFile) -> tuple[NDArray[np.int64], np.dtype[Any]]:
    """Ends of the documents, and the type of an id, which follows from the size of the file."""
    index = _beside(file, f"{file.location}.index")
    ends = np.frombuffer(_read_index(index, file), "<u8").astype(np.int64)
    width = file.bytes // int(ends[-1]) if len(ends) and ends[-1] else 2
    return ends, np.dtype("<u4" if width == 4 else "<u2")


def _megatron_index(file: SourceFile) -> tuple[NDArray[np.int64], np.dtype[Any]]:
    """Ends of the documents, each of which may be several sequences, and the type of an id."""
    index = _beside(file, f"{file.location.removesuffix('.bin')}.idx")
    data = _read_index(index, file)
    fixed = struct.calcsize("<9sQBQQ")
    if len(data) < fixed or data[:9] != MEGATRON_HEADER:
        raise CorpusError(
            f"{index.origin}: is not an index of Megatron's; {file.origin} needs one, or has to be a packed file"
        )
    _, version, code, sequences, documents = struct.unpack_from("<9sQBQQ", data)
    if version != MEGATRON_VERSION or code not in MEGATRON_CODES:
        raise CorpusError(f"{index.origin}: version {version} with type {code} of Megatron's index is not known")
    if len(data) < fixed + 12 * sequences + 8 * documents:
        raise CorpusError(f"{index.origin}: is truncated")
    lengths = np.frombuffer(data, "<i4", sequences, fixed)
    bounds = np.frombuffer(data, "<i8", documents, fixed + 12 * sequences)
    ends = np.cumsum([0, *lengths], dtype=np.int64)[bounds[1:]]
    return ends, np.dtype(MEGATRON_CODES[code])


def _read_packed(file: SourceFile, special: Special) -> Iterator[TokenDocument]:
    ids = _packed_ids(file)
    starts = _starts(ids, special)
    before = _neighbor(file, -1)
    first = 0
    if before is not None and _is_open(_packed_ids(before), special):
        first = int(starts[0]) if len(starts) else len(ids)
    bounds = [first, *starts[starts > first].tolist(), len(ids)] if first < len(ids) else []
    index = 0
    for start, end in pairwise(bounds):
        parts = [ids[start:end]]
        if end == len(ids) and _is_open(ids, special):
            parts += _continued(file, special)
        document = np.concatenate(parts)
        if document.tolist() != [special.bos]:  # the last file is padded with these
            yield TokenDocument(index, document)
            index += 1


def _continued(file: SourceFile, special: Special) -> Iterator[NDArray[np.int64]]:
    """The rest of a file's last document, from the files after it."""
    following = _neighbor(file, 1)
    while following is not None:
        ids = _packed_ids(following)
        starts = _starts(ids, special)
        yield ids[: starts[0]] if len(starts) else ids
        following = _neighbor(following, 1) if not len(starts) and _is_open(ids, special) else None


def _is_open(ids: NDArray[np.int64], special: Special) -> bool:
    """Whether the last document may continue in the next file."""
    return not len(ids) or int(ids[-1]) != special.eos


def _starts(ids: NDArray[np.int64], special: Special) -> NDArray[np.int64]:
    """Where documents begin: at BOS, and after EOS."""
    after = np.flatnonzero(ids[:-1] == special.eos) + 1
    return np.union1d(np.flatnonzero(ids == special.bos), after)


def _packed_ids(file: SourceFile) -> NDArray[np.int64]:
    data = _read(file)
    if len(data) < _PACKED_BYTES:
        raise CorpusError(f"{file.origin}: is truncated")
    name, version, code, count = struct.unpack_from("<7sQBQ", data)
    if name != _PACKED_HEADER or version != _PACKED_VERSION or code not in _PACKED_CODES:
        raise CorpusError(f"{file.origin}: version {version} with type {code} of packed files is not known")
    dtype = np.dtype(_PACKED_CODES[code])
    if len(data) != _PACKED_BYTES + count * dtype.itemsize:
        raise CorpusError(f"{file.origin}: has {len(data)} bytes, its header counts {count} ids; it is truncated")
    return np.frombuffer(data, dtype, count, _PACKED_BYTES).astype(np.int64)


def _neighbor(file: SourceFile, step: int) -> SourceFile | None:
    """The packed file whose number is higher by `step`, if it exists."""
    name = _PACKED_NAME.fullmatch(file.location)
    number = int(name[2]) + step if name else -1
    if name is None or number < 0:
        return None
    found = _beside(file, f"{name[1]}{number:010d}{name[3]}")
    try:
        found.open().close()
    except FileNotFoundError:
        return None
    return found


def _beside(file: SourceFile, location: str) -> SourceFile:
    """A file in the same folder."""
    return replace(
        file,
        location=location,
        origin=PurePosixPath(file.origin).with_name(PurePosixPath(location).name).as_posix(),
    )


def _read_index(index: SourceFile, file: SourceFile) -> bytes:
    try:
        return _read(index)
    except FileNotFoundError:
        raise CorpusError(
            f"{index.origin} does not exist; {file.origin} needs this index, or has to be a packed file of litgpt"
        ) from None


def _read(file: SourceFile) -> bytes:
    with file.open() as opened:
        return opened.read()
