"""Tokenizers of models that were trained elsewhere, behind the interface of ours."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tinyllama.errors import CorpusError
from tinyllama.files import sha256_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import tokenizers

TOKENIZER_JSON, SETTINGS, CONFIG = "tokenizer.json", "tokenizer_config.json", "config.json"


class JsonTokenizer:
    """A Hugging Face folder's `tokenizer.json`, or what transformers makes of its older files."""

    def __init__(self, folder: Path) -> None:
        """Load a folder's tokenizer.

        Raises:
            CorpusError: it has none that can be read, or one whose EOS is not known.
        """
        self.folder = folder
        self._tokenizer = _load(folder)
        self._tokenizer.encode_special_tokens = True  # a text that spells a special token stays text
        self._settings = _read(folder / CONFIG) | _read(folder / SETTINGS)
        eos = self._special("eos")
        if eos is None:
            raise CorpusError(f"{folder}: {SETTINGS} and {CONFIG} name no EOS that the tokenizer has; add eos_token")
        self._eos = eos
        bos = self._special("bos")
        self._bos = eos if bos is None else bos

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without BOS and EOS."""
        return [found.ids for found in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens give none."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens included."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def bos_id(self) -> int:
        """Id that begins a document; EOS where the tokenizer has no BOS."""
        return self._bos

    @property
    def eos_id(self) -> int:
        """Id that ends a document."""
        return self._eos

    @property
    def adds_bos(self) -> bool:
        """Whether the tokenizer begins a text with BOS when asked for special tokens, as lm-eval asks it."""
        return self._tokenizer.encode("a").ids[:1] == [self._bos]

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the folder's tokenizer.json, or of the vocabulary that transformers made."""
        path = self.folder / TOKENIZER_JSON
        if path.is_file():
            return sha256_file(path)
        import hashlib  # noqa: PLC0415  # rarely needed

        return hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()

    def _special(self, name: str) -> int | None:
        """Id of BOS or EOS, as the settings spell it or the config numbers it."""
        spelled = self._settings.get(f"{name}_token")
        text = spelled.get("content") if isinstance(spelled, dict) else spelled
        if isinstance(text, str):
            return self._tokenizer.token_to_id(text)
        number = self._settings.get(f"{name}_token_id")
        number = number[0] if isinstance(number, list) and number else number
        return number if isinstance(number, int) else None


def _load(folder: Path) -> tokenizers.Tokenizer:
    path = folder / TOKENIZER_JSON
    try:
        if path.is_file():
            from tokenizers import Tokenizer  # noqa: PLC0415  # heavy

            return Tokenizer.from_file(str(path))
        from transformers import AutoTokenizer  # noqa: PLC0415  # takes seconds

        made: Any = AutoTokenizer.from_pretrained(folder, use_fast=True)
        found: tokenizers.Tokenizer = made.backend_tokenizer
    except Exception as error:
        raise CorpusError(
            f"{folder}: no tokenizer can be read here ({str(error).splitlines()[0]}); "
            "put tokenizer.model or tokenizer.json beside the weights"
        ) from error
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
