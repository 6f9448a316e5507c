"""A tokenizer that exists only as tokenizer.json, as models with byte-level BPE have it."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tinyllama.corpus.tokenizer import TextTokenizer
from tinyllama.errors import CorpusError
from tinyllama.files import sha256_file, sha256_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CONFIG = "tokenizer_config.json"


class JsonTokenizer(TextTokenizer):
    """A tokenizer.json with its tokenizer_config.json; the `tokenizers` library's ids are the reference."""

    def __init__(self, model_file: Path) -> None:
        """Load a `tokenizer.json`; BOS and EOS are those of the `tokenizer_config.json` beside it.

        Raises:
            CorpusError: a file is missing or damaged, or BOS or EOS are not stated.
        """
        from tokenizers import Tokenizer  # noqa: PLC0415  # commands that need none start faster

        self.model_file = model_file
        try:
            text = model_file.read_text(encoding="utf-8")
            self.config: dict[str, Any] = json.loads((model_file.parent / CONFIG).read_text(encoding="utf-8"))
            self._tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # the library raises nothing narrower
            raise CorpusError(f"{model_file}: no tokenizer can be read from it and {CONFIG}: {error}") from error
        self._tokenizer.encode_special_tokens = True  # a text that spells a special token stays text
        self._bos, self._eos = self._special("bos_token"), self._special("eos_token")

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without BOS and EOS; a text that spells a special token stays text."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens give none."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())

    @property
    def bos_id(self) -> int:
        """Id that begins a document."""
        return self._bos

    @property
    def eos_id(self) -> int:
        """Id that ends a document."""
        return self._eos

    @cached_property
    def adds_bos(self) -> bool:
        """Whether tooling puts BOS before a prompt: the tokenizer.json says so itself."""
        ids: list[int] = self._tokenizer.encode("a").ids
        return ids[:1] == [self._bos]

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the file and of what BOS and EOS are."""
        return sha256_json([sha256_file(self.model_file), self._bos, self._eos])

    def _special(self, key: str) -> int:
        token = self.config.get(key)
        text = token.get("content") if isinstance(token, dict) else token
        index = self._tokenizer.token_to_id(text) if isinstance(text, str) else None
        if index is None:
            raise CorpusError(f"{self.model_file}: {CONFIG} names no {key}; documents could not be told apart")
        return int(index)
