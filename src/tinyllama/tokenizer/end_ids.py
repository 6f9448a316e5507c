"""Ids at which a text from a model ends: EOS, or those in the files beside its tokenizer, as transformers does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.errors import CorpusError
from tinyllama.record_files import read_object

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import JsonValue

GENERATION_CONFIG = "generation_config.json"
_KEY = "eos_token_id"


def read_end_ids(folder: Path, eos_id: int, vocab_size: int) -> frozenset[int]:
    """Ids of tokens that end a text.

    Args:
        folder: of the model or tokenizer; its generation_config.json decides, else its config.json.
        eos_id: what ends a text where neither names an id of the vocabulary; -1 and ids beyond it are not counted.
        vocab_size: ids in the vocabulary.

    Raises:
        CorpusError: a file cannot be read.
    """
    for name in (GENERATION_CONFIG, "config.json"):
        try:
            stated = read_object(folder / name, CorpusError, "download the file again").get(_KEY)
        except FileNotFoundError:
            continue
        if ids := {token for token in _listed(stated) if 0 <= token < vocab_size}:
            return frozenset(ids)
    return frozenset({eos_id})


def end_ids_setting(end_ids: frozenset[int]) -> JsonValue:
    """The value under `eos_token_id`: a list only where there are several, which older releases do not know."""
    first, *others = sorted(end_ids)
    return [first, *others] if others else first


def _listed(stated: JsonValue) -> list[int]:
    values = stated if isinstance(stated, list) else [stated]
    return [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
