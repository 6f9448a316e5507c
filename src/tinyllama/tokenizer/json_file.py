"""Tokenizers that are a tokenizer.json, as models with byte-level BPE have it."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tinyllama.errors import CorpusError
from tinyllama.files import sha256_file, sha256_json
from tinyllama.record_files import parse_json, read_object
from tinyllama.tokenizer.chat_template import read_chat_template, read_special_tokens
from tinyllama.tokenizer.end_ids import read_end_ids

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import tokenizers
    from pydantic import JsonValue

    from tinyllama.tokenizer.base import Library

_SPACE = "\u2581"
_KEEP_TEXT = frozenset({"ByteFallback", "ByteLevel", "Digits", "Fuse", "Metaspace", "Prepend", "UnicodeScripts"})
"""Normalizers, rules for words, and decoders that together keep every text, or change all texts alike."""
TOKENIZER_JSON, SETTINGS, CONFIG = "tokenizer.json", "tokenizer_config.json", "config.json"


class JsonTokenizer:
    """A `tokenizer.json`, or what transformers makes of a folder's older files, read by `tokenizers`."""

    library: Library = "tokenizers"

    def __init__(self, model_file: Path) -> None:
        """Load a `tokenizer.json`; tokenizer_config.json or config.json beside it names BOS and EOS.

        Args:
            model_file: the file; if it does not exist, older files of its folder (vocab.json, merges.txt) are read.

        Raises:
            CorpusError: no tokenizer can be read, EOS is not named, or BOS or EOS is not in the vocabulary.
        """
        self.model_file, self.chat_template = model_file, read_chat_template(model_file.parent)
        self.special_tokens: Mapping[str, str] = read_special_tokens(model_file.parent)
        self._tokenizer = _load(model_file)
        self._tokenizer.encode_special_tokens = True  # the spelling of a special token is text
        self._switched_off = _switch_off(self._tokenizer)
        self.config = _read(model_file.with_name(CONFIG)) | _read(model_file.with_name(SETTINGS))
        """The model's settings, and over them the tokenizer's."""
        eos, bos = self._special("eos"), self._special("bos")
        if eos is None:
            raise CorpusError(
                f"{model_file}: {SETTINGS} beside it names no eos_token, which separates documents; add it"
            )
        self._eos, self._bos = eos, eos if bos is None else bos
        self.end_ids = read_end_ids(model_file.parent, eos, self.vocab_size)
        """Ids at which a text that a model writes ends."""

    def __reduce__(self) -> tuple[type[JsonTokenizer], tuple[Path]]:
        """Another process opens the file again, whatever its working directory."""
        return type(self), (self.model_file.absolute(),)

    def limit_threads(self, count: int) -> None:
        """Encode lists of texts with at most `count` threads: a setting of the whole process."""
        os.environ["RAYON_NUM_THREADS"] = str(count)

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a prompt as Llama tooling passes them to a model: after BOS, if `adds_bos`."""
        return [self.bos_id] * self.adds_bos + self.encode([text])[0]

    def has_piece(self, text: str) -> bool:
        """Whether the vocabulary has a token of this spelling."""
        return self._tokenizer.token_to_id(text) is not None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without BOS and EOS; the spelling of a special token is encoded as text."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def encode_marked(self, text: str) -> list[int]:
        """Ids of a conversation's text, in which the spelling of a special token is that token; without BOS and EOS."""
        self._tokenizer.encode_special_tokens = False
        try:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        finally:
            self._tokenizer.encode_special_tokens = True
        return ids

    def piece(self, token: int) -> str:
        """How the vocabulary spells a token."""
        return self._tokenizer.id_to_token(token) or ""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens are skipped."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    @property
    def vocab_size(self) -> int:
        """Number of ids in the vocabulary, added tokens included."""
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())

    @property
    def bos_id(self) -> int:
        """Id that begins a document; EOS where the tokenizer has no BOS."""
        return self._bos

    @property
    def eos_id(self) -> int:
        """Id that ends a document."""
        return self._eos

    @cached_property
    def adds_bos(self) -> bool:
        """Whether the tokenizer itself puts BOS before a text when it adds special tokens."""
        ids: list[int] = self._tokenizer.encode("a").ids
        return ids[:1] == [self._bos]

    @cached_property
    def may_respell(self) -> bool:
        """Whether the file has a rule that changes some texts, or one that is not known to keep all."""
        parts = (self._tokenizer.normalizer, self._tokenizer.pre_tokenizer, self._tokenizer.decoder)
        rules = [json.loads(part.__getstate__()) for part in parts if part is not None]
        added = self._tokenizer.get_added_tokens_decoder().values()  # special ones in texts are spelled as text
        return not all(map(_keeps_text, rules)) or any(
            (token.lstrip or token.rstrip) and not token.special for token in added
        )

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the file (or of what transformers made), BOS and EOS, and settings that are switched off."""
        if self.model_file.is_file():
            content = sha256_file(self.model_file)
        else:
            content = hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()
        return sha256_json([content, self._bos, self._eos, *self._switched_off])

    def _special(self, name: str) -> int | None:
        """Id of BOS or EOS by its spelling in the settings or its number in the config; None if neither has it."""
        key = f"{name}_token"
        token = self.config.get(key)
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            index: int | None = self._tokenizer.token_to_id(text)
            if index is None:
                raise CorpusError(
                    f"{self.model_file}: {SETTINGS} names {text!r} as {key}, which is not in its vocabulary"
                )
            return index
        number = self.config.get(f"{name}_token_id")
        number = number[0] if isinstance(number, list) and number else number
        return number if isinstance(number, int) else None


def _switch_off(tokenizer: tokenizers.Tokenizer) -> list[str]:
    """Switch off what a training script left in a file that changes the ids of texts; returns what there was.

    These settings cut texts, fill them up, or choose merges at random.
    """
    found = []
    if tokenizer.truncation is not None:
        tokenizer.no_truncation()
        found.append("truncation")
    if tokenizer.padding is not None:
        tokenizer.no_padding()
        found.append("padding")
    model: Any = tokenizer.model
    if getattr(model, "dropout", None) is not None:
        model.dropout = None
        found.append("dropout")
    return found


def portable_json(model_file: Path) -> bytes:
    """A tokenizer.json that every release of tokenizers reads; the file's own bytes if it is one.

    It lacks the settings that `JsonTokenizer` switches off, and merges are texts instead of pairs, which releases below
    0.20 do not read. A token with a space, for which only pairs are clear, keeps them.
    """
    data = model_file.read_bytes()
    state = parse_json(data)
    if not isinstance(state, dict) or not isinstance(model := state.get("model"), dict):
        return data
    found = {key: None for key in ("truncation", "padding") if state.get(key) is not None}
    changed: dict[str, JsonValue] = {"dropout": None} if model.get("dropout") is not None else {}
    if pairs := _pairs_without_space(model.get("merges")):
        changed["merges"] = [" ".join(pair) for pair in pairs]
    if not found and not changed:
        return data
    return json.dumps({**state, **found, "model": {**model, **changed}}, ensure_ascii=False, indent=2).encode()


def _pairs_without_space(merges: JsonValue) -> list[list[str]]:
    """Merges that are pairs, if a space can separate each; else none."""
    stated = merges if isinstance(merges, list) else []
    pairs = [[str(part) for part in merge] for merge in stated if isinstance(merge, list)]
    return [] if any(" " in part for pair in pairs for part in pair) else pairs


def _keeps_text(
    rule: dict[str, Any],  # the tokenizers library's own JSON
) -> bool:
    """Whether a normalizer, rule for words or decoder keeps all texts, or at least changes all alike."""
    match rule:
        case {"type": "Sequence"}:
            return all(map(_keeps_text, next(value for key, value in rule.items() if key != "type")))
        case {"type": "Replace", "pattern": {"String": old}, "content": new}:
            return {old, new} == {" ", _SPACE}
        case {"type": "Split" | "Punctuation", "behavior": behavior}:
            return bool(behavior != "Removed")
        case {"type": "Strip"}:  # of the decoder, which strips the space that was put before a text
            return "content" in rule
    return rule.get("type") in _KEEP_TEXT


def _load(model_file: Path) -> tokenizers.Tokenizer:
    try:
        if model_file.is_file():
            from tokenizers import Tokenizer  # commands that need none start faster

            return Tokenizer.from_str(model_file.read_text(encoding="utf-8"))
        from transformers import AutoTokenizer  # takes seconds

        made: Any = AutoTokenizer.from_pretrained(model_file.parent, use_fast=True)
        found: tokenizers.Tokenizer = made.backend_tokenizer
    except Exception as error:  # the libraries raise nothing narrower
        raise CorpusError(
            f"{model_file.parent}: no tokenizer can be read here ({str(error).splitlines()[0]}); "
            f"put tokenizer.model or {TOKENIZER_JSON} there"
        ) from error
    return found


def _read(path: Path) -> dict[str, JsonValue]:
    try:
        return read_object(path, CorpusError, "download the file again")
    except FileNotFoundError:
        return {}
