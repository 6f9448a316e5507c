"""Tokenizers that are SentencePiece models: `tokenizer.model`, as Llama 2 has it."""

from __future__ import annotations

import re
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING

from tinyllama.errors import CorpusError
from tinyllama.files import sha256_file, sha256_json
from tinyllama.processors import available_cores
from tinyllama.tokenizer.added_tokens import read_added_tokens
from tinyllama.tokenizer.chat_template import read_chat_template, read_special_tokens
from tinyllama.tokenizer.end_ids import read_end_ids

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tinyllama.tokenizer.base import Library

TOKENIZER_MODEL = "tokenizer.model"


class SentencePieceTokenizer:
    """A SentencePiece model, and the tokens that were added beside it; these occur in no text that is encoded."""

    library: Library = "sentencepiece"

    def __init__(self, model_file: Path) -> None:
        """Load a `tokenizer.model`.

        Raises:
            CorpusError: the file does not exist, is not a SentencePiece model, or has no BOS or EOS.
        """
        from sentencepiece import SentencePieceProcessor  # commands that need none start faster

        self.model_file = model_file
        self._threads = available_cores()
        self.chat_template = read_chat_template(model_file.parent)
        try:
            self._processor = SentencePieceProcessor(model_proto=model_file.read_bytes())
        except (OSError, RuntimeError, ValueError) as error:
            raise CorpusError(f"{model_file}: no SentencePiece model can be read from it: {error}") from error
        self.added_tokens = read_added_tokens(model_file.parent, self._processor.piece_size())
        """Tokens whose ids follow those of the pieces."""
        if min(self.bos_id, self.eos_id) < 0:
            raise CorpusError(
                f"{model_file}: the model has no BOS or no EOS, which separate documents; use another tokenizer"
            )
        self.end_ids = read_end_ids(model_file.parent, self.eos_id, self.vocab_size)
        """Ids at which a text that a model writes ends."""
        own = {"bos_token": self.bos_id, "eos_token": self.eos_id, "unk_token": self._processor.unk_id()}
        spelled = {name: self.piece(token) for name, token in own.items()}
        self.special_tokens: Mapping[str, str] = spelled | read_special_tokens(model_file.parent)

    def __reduce__(self) -> tuple[type[SentencePieceTokenizer], tuple[Path]]:
        """Another process opens the file again, whatever its working directory."""
        return type(self), (self.model_file.absolute(),)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without BOS and EOS; the spelling of a special token is encoded as text."""
        if len(texts) == 1:  # starting threads takes longer than encoding a text
            return [self._processor.encode(texts[0], out_type=int)]
        ids: list[list[int]] = self._processor.encode(list(texts), out_type=int, num_threads=self._threads)
        return ids

    def encode_marked(self, text: str) -> list[int]:
        """Ids of a conversation's text, in which the spelling of a special token is that token; without BOS and EOS.

        The text between two such tokens is encoded as one that stands alone, as by the rule "legacy" of transformers.
        """
        parts = self._marks.split(text)
        encoded = (
            [self._marked[part]] if part in self._marked else self._processor.encode(part) for part in parts if part
        )
        return [token for ids in encoded for token in ids]

    @cached_property
    def _marked(self) -> dict[str, int]:
        """Ids of the control pieces and added tokens by their spellings."""
        own, count = self._processor, self._processor.piece_size()
        control = {own.id_to_piece(i): i for i in range(count) if own.is_control(i) or own.is_unknown(i)}
        return control | {token.text: count + i for i, token in enumerate(self.added_tokens)}

    @cached_property
    def _marks(self) -> re.Pattern[str]:
        """Matches any of them, the longest where one begins with another."""
        return re.compile(f"({'|'.join(map(re.escape, sorted(self._marked, key=len, reverse=True)))})")

    def piece(self, token: int) -> str:
        """How the vocabulary spells a token."""
        count: int = self._processor.piece_size()
        spelled: str = self.added_tokens[token - count].text if token >= count else self._processor.id_to_piece(token)
        return spelled

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; BOS, EOS and special added tokens are skipped."""
        pieces, text = self._processor.piece_size(), ""
        kept = [token for token in ids if token < pieces or not self.added_tokens[token - pieces].special]
        for added, run in groupby(kept, lambda token: token >= pieces):
            if added:
                text += "".join(self.added_tokens[token - pieces].text for token in run)
            elif text:  # only the beginning of the whole text has a space that was put before it
                text += self._processor.decode([*self._processor.encode("a"), *run])[1:]
            else:
                text = self._processor.decode(list(run))
        return text

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a prompt as Llama tooling passes them to a model: after BOS, if `adds_bos`."""
        return [self.bos_id] * self.adds_bos + self.encode([text])[0]

    def limit_threads(self, count: int) -> None:
        """Encode lists of texts with at most `count` threads."""
        self._threads = count

    def has_piece(self, text: str) -> bool:
        """Whether the vocabulary has a piece of this spelling, or an added token."""
        if any(text == token.text for token in self.added_tokens):
            return True
        return self._processor.piece_to_id(text) != self._processor.unk_id()

    @property
    def adds_bos(self) -> bool:
        """Whether tooling puts BOS before a prompt: true of SentencePiece models of Llama's kind."""
        return True

    @property
    def vocab_size(self) -> int:
        """Number of ids in the vocabulary, added tokens included."""
        return self._processor.piece_size() + len(self.added_tokens)

    @property
    def bos_id(self) -> int:
        """Id that begins a document."""
        return self._processor.bos_id()

    @property
    def eos_id(self) -> int:
        """Id that ends a document."""
        return self._processor.eos_id()

    @property
    def may_respell(self) -> bool:
        """Whether its file has a rule that changes texts: `write_tokenizer_json` refuses such models."""
        return False

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the model file, and of added tokens if there are any."""
        content = sha256_file(self.model_file)
        return sha256_json([content, *map(list, self.added_tokens)]) if self.added_tokens else content
