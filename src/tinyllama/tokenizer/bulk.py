"""Token ids for whole corpora: a fast engine, checked against the tokenizer's own library."""

from __future__ import annotations

import json
import logging
import zlib
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from tinyllama.errors import CorpusError
from tinyllama.tokenizer.convert import tokenizer_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    import fastokens
    from numpy.typing import NDArray
    from pydantic import JsonValue

    from tinyllama.tokenizer.base import Tokenizer

_log = logging.getLogger(__name__)

_ONE_IN = 1024
"""One of this number of documents is encoded a second time, by the reference, which takes nine times as long."""
_FIRST, _SHORT = 8, 10_000
"""The first of a task's documents are encoded twice: the very first, and others up to this number of characters."""
_LONG = 1_000_000
"""Characters above which a text is not sampled, since SentencePiece takes a minute for ten million; where it is the
only engine, such texts are divided."""
_SPACE = "▁"


class Encoded(NamedTuple):
    """The ids of several texts."""

    ids: NDArray[np.uint32]
    """Ids of all texts, one after another."""
    bounds: NDArray[np.int64]
    """Text i has the ids `bounds[i]` to `bounds[i + 1]`: [texts + 1]."""

    def of(self, index: int) -> NDArray[np.uint32]:
        """The ids of one text."""
        return self.ids[self.bounds[index] : self.bounds[index + 1]]


class Engine(Protocol):
    """Encodes many texts, without BOS and EOS; the spelling of a special token is encoded as text."""

    name: str
    """Library and version, for the manifest."""

    @property
    def definition(self) -> str:
        """What another process can open the same engine from, faster than from the tokenizer."""

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The ids of texts."""


class ReferenceEngine:
    """The tokenizer's own library, which other engines are compared with."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.name, self.definition = f"{tokenizer.library} {version(tokenizer.library)}", ""
        self._tokenizer = tokenizer
        self._divide = divide_text if can_divide(tokenizer) else None

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The ids of texts."""
        parts = [[text] if self._divide is None else self._divide(text, _LONG) for text in texts]
        lists = self._tokenizer.encode([part for of_text in parts for part in of_text])
        ends = np.cumsum([0, *map(len, lists)], dtype=np.int64)
        ids = np.fromiter((index for ids in lists for index in ids), np.uint32, count=int(ends[-1]))
        return Encoded(ids, ends[np.cumsum([0, *map(len, parts)])])


def can_divide(tokenizer: Tokenizer) -> bool:
    """Whether a text that is divided before runs of spaces has the ids of its parts.

    Merges make only pieces of the vocabulary. If no piece has a space after another character, no merge crosses the
    beginning of a run of spaces, so that both sides are encoded as if they stood alone. This holds for Llama 2.
    """
    if tokenizer.library != "sentencepiece":
        return False
    pieces = tokenizer_json(tokenizer.model_file)["model"]["vocab"]
    return not any(_SPACE in piece.lstrip(_SPACE) for piece in pieces)


def divide_text(text: str, limit: int) -> list[str]:
    """Parts of a text to encode one by one, of at most `limit` characters where spaces allow it.

    Each part but the first lacks its first space, since SentencePiece puts one before every text.
    """
    parts, start = [], 0
    while len(text) - start > limit:
        end = start + limit
        space = -1
        while (space := text.rfind(" ", start + 1, end)) > start and text[space - 1] in {" ", _SPACE}:
            end = space
        if space <= start:
            break
        parts.append(text[start:space])
        start = space + 1
    return [*parts, text[start:]]


class FastEngine:
    """`fastokens`: a SentencePiece BPE in Rust, several times as fast as the reference."""

    def __init__(self, tokenizer: Tokenizer, definition: str = "") -> None:
        """Describe the engine; it is built at its first use, which fails if the model is not of Llama's kind.

        Args:
            tokenizer: the reference.
            definition: that of another such engine; "" to derive it from the tokenizer.
        """
        self.name = f"fastokens {version('fastokens')}"
        self._tokenizer, self._given = tokenizer, definition
        self._reads_bytes = not tokenizer.has_piece(_BYTE_SPELLING[0])

    @cached_property
    def definition(self) -> str:
        """A tokenizer.json."""
        return self._given or json.dumps(_without_specials(tokenizer_json(self._tokenizer.model_file)))

    @cached_property
    def _engine(self) -> fastokens.Tokenizer:
        """Built on first use: a process that only divides the work among others needs none."""
        from fastokens import Tokenizer  # an extra

        return Tokenizer.from_json_str(self.definition)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The ids of texts."""
        ids, bounds = self._engine.encode_batch_flat(list(texts))
        encoded = Encoded(np.frombuffer(ids, "<u4"), np.frombuffer(bounds, "<u8").astype(np.int64))
        if not self._reads_bytes:
            return encoded
        spelled = [index for index, text in enumerate(texts) if _BYTE_SPELLING in text]
        return self._corrected(encoded, texts, spelled) if spelled else encoded

    def _corrected(self, encoded: Encoded, texts: Sequence[str], chosen: Sequence[int]) -> Encoded:
        """The encoded texts, with the reference's ids for the chosen ones."""
        parts = [encoded.of(index) for index in range(len(texts))]
        for index, ids in zip(chosen, self._tokenizer.encode([texts[i] for i in chosen]), strict=True):
            parts[index] = np.array(ids, np.uint32)
        return Encoded(np.concatenate(parts), np.cumsum([0, *map(len, parts)], dtype=np.int64))


_BYTE_SPELLING = "<0x"
"""How the byte pieces begin. If a vocabulary has no piece "<", fastokens reads their spelling in a text as the piece,
so the reference encodes such texts. Llama 2's vocabulary has the piece."""


def _without_specials(
    state: dict[str, Any],  # the tokenizers library's own JSON
) -> JsonValue:
    """A tokenizer.json in which no text spells a control token.

    It has no added tokens, which would be searched for in texts. The names of the control tokens begin with a space,
    which no normalized text contains.
    """
    model = state["model"]
    names = {token["content"]: f" {token['content']}" for token in state["added_tokens"]}
    vocabulary = {names.get(piece, piece): index for piece, index in model["vocab"].items()}
    model |= {"vocab": vocabulary, "unk_token": names[model["unk_token"]]}
    return state | {"model": model, "added_tokens": [], "post_processor": None}


def open_engine(tokenizer: Tokenizer, definition: str = "") -> Engine:
    """The fastest engine that is installed and knows this kind of tokenizer.

    Args:
        tokenizer: the reference.
        definition: that of the same engine in another process, if there is one.
    """
    if tokenizer.library != "sentencepiece":
        return ReferenceEngine(tokenizer)
    if find_spec("fastokens") is None:
        _log.warning("fastokens is not installed: SentencePiece encodes instead, at about a fifth of the speed")
        return ReferenceEngine(tokenizer)
    return FastEngine(tokenizer, definition)


class CheckedEncoder:
    """Encodes with an engine, and compares a sample of the documents with the tokenizer's own library."""

    def __init__(self, tokenizer: Tokenizer, engine: Engine, *, every: bool = False) -> None:
        """Begin a task.

        Args:
            tokenizer: the reference.
            engine: gives the ids.
            every: compare all documents; else the first one, short ones soon after it, and one in 1,024, chosen by a
                hash of its origin among those of at most a million characters.
        """
        self._tokenizer, self._engine, self._every = tokenizer, engine, every
        self._is_reference = isinstance(engine, ReferenceEngine)
        self._seen = 0
        self.checked = 0
        """Number of documents that were compared with the reference, or encoded by it."""

    def encode(self, texts: Sequence[str], origins: Sequence[str]) -> Encoded:
        """Ids of documents.

        Raises:
            CorpusError: the engine's ids differ from the reference's; names the document.
        """
        encoded = self._engine.encode(texts)
        if self._is_reference:
            chosen = list(range(len(texts)))
        else:
            chosen = [index for index, text in enumerate(texts) if self._is_chosen(index, text, origins[index])]
            references = self._tokenizer.encode([texts[index] for index in chosen]) if chosen else []
            for index, reference in zip(chosen, references, strict=True):
                self._compare(encoded.of(index), reference, origins[index])
        self._seen += len(texts)
        self.checked += len(chosen)
        return encoded

    def _is_chosen(self, index: int, text: str, origin: str) -> bool:
        if self._every:
            return True
        before = self._seen + index
        is_early = before == 0 or (before < _FIRST and len(text) <= _SHORT)
        return len(text) <= _LONG and (is_early or zlib.crc32(origin.encode()) % _ONE_IN == 0)

    def _compare(self, ids: NDArray[np.uint32], reference: Sequence[int], origin: str) -> None:
        if len(ids) == len(reference) and bool((ids == np.array(reference, np.uint32)).all()):
            return
        same = min(len(ids), len(reference))
        differs = np.flatnonzero(ids[:same] != np.array(reference[:same], np.uint32))
        first = int(differs[0]) if len(differs) else same
        raise CorpusError(
            f"{origin}: {self._engine.name} gives other ids than the tokenizer's own library from token {first} on "
            f"({ids[first : first + 4].tolist()}, not {list(reference[first : first + 4])}); the task was discarded: "
            "uninstall fastokens, prepare again, and report the document to its authors"
        )
