"""Tokens that were added beside a `tokenizer.model`, as fine-tuned Llamas have them for the turns of a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, TypeAdapter, ValidationError

from tinyllama.errors import CorpusError
from tinyllama.record_files import first_problem, read_object

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import JsonValue

ADDED_TOKENS, SPECIAL_TOKENS = "added_tokens.json", "special_tokens_map.json"
_REMEDY = "download the tokenizer's files again"


class AddedToken(NamedTuple):
    """A token that is no piece of the SentencePiece model."""

    text: str
    special: bool
    """Whether it marks something, like the end of a turn, and is no part of a decoded text."""


class _Stated(BaseModel):
    content: str
    special: bool = False


class _Listed(_Stated):
    id: int


def read_added_tokens(folder: Path, pieces: int) -> list[AddedToken]:
    """Tokens whose ids follow those of the SentencePiece model, in their order; empty for a tokenizer without.

    Args:
        folder: of the tokenizer. Releases of transformers wrote such tokens into added_tokens.json, tokenizer.json
            and tokenizer_config.json; where several name an id, the last of these counts.
        pieces: of the SentencePiece model.

    Raises:
        CorpusError: a file cannot be read, or an id has no token though a later one has.
    """
    settings = _read(folder / "tokenizer_config.json")
    whole = _read(folder / "tokenizer.json")
    marks = _spelled(list((settings | _read(folder / SPECIAL_TOKENS)).values()))
    try:
        found = {
            token: AddedToken(text, text in marks)
            for text, token in TypeAdapter(dict[str, int]).validate_python(_read(folder / ADDED_TOKENS)).items()
        }
        for entry in TypeAdapter(list[_Listed]).validate_python(whole.get("added_tokens") or []):
            found[entry.id] = AddedToken(entry.content, entry.special)
        decoder = TypeAdapter(dict[int, _Stated]).validate_python(settings.get("added_tokens_decoder") or {})
    except ValidationError as error:
        raise CorpusError(f"{folder}: the added tokens cannot be read ({first_problem(error)}); {_REMEDY}") from error
    found |= {token: AddedToken(stated.content, stated.special) for token, stated in decoder.items()}
    ids = sorted(token for token in found if token >= pieces)
    if ids != list(range(pieces, pieces + len(ids))):
        raise CorpusError(
            f"{folder}: tokens were added up to id {ids[-1]}, but not for all ids after the {pieces:,} pieces of "
            f"tokenizer.model; {_REMEDY}"
        )
    return [found[token] for token in ids]


def _spelled(value: JsonValue) -> set[str]:
    """Spellings of special tokens in a file that names them: texts, lists of them, and objects with their `content`."""
    if isinstance(value, list):
        return set().union(*map(_spelled, value))
    if isinstance(value, dict):
        return _spelled(value.get("content"))
    return {value} if isinstance(value, str) else set()


def _read(path: Path) -> dict[str, JsonValue]:
    try:
        return read_object(path, CorpusError, _REMEDY)
    except FileNotFoundError:
        return {}
