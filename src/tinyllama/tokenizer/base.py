"""The interface of every tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Library = Literal["sentencepiece", "tokenizers"]


class Tokenizer(Protocol):
    """A tokenizer of any kind. Instances can be pickled; the other process opens the file again."""

    model_file: Path
    """The file that defines it: a SentencePiece model, or a tokenizer.json."""
    chat_template: str | None
    """The Jinja template beside it; None for a base model."""
    special_tokens: Mapping[str, str]
    """Spellings of special tokens by the names that templates know, such as `bos_token`."""
    library: Library
    """The library whose ids are the reference for every other reader of the tokenizer."""

    def limit_threads(self, count: int) -> None:
        """Encode lists of texts with at most `count` threads."""

    def has_piece(self, text: str) -> bool:
        """Whether the vocabulary has a piece of this spelling."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without BOS and EOS; the spelling of a special token is encoded as text."""

    def encode_marked(self, text: str) -> list[int]:
        """Ids of a conversation's text, in which the spelling of a special token is that token; without BOS and EOS."""

    def piece(self, token: int) -> str:
        """How the vocabulary spells a token."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens are skipped."""

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a prompt as Llama tooling passes them to a model: after BOS, if `adds_bos`."""

    @property
    def vocab_size(self) -> int:
        """Number of ids in the vocabulary."""

    @property
    def bos_id(self) -> int:
        """Id that begins a document."""

    @property
    def eos_id(self) -> int:
        """Id that ends a document."""

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids at which a text that a model writes ends: EOS, or those that generation_config.json names."""

    @property
    def adds_bos(self) -> bool:
        """Whether tooling puts BOS before a prompt."""

    @property
    def may_respell(self) -> bool:
        """Whether its file has a rule that changes some texts, whichever those are; see `spells_back`."""

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of everything that decides the ids."""
