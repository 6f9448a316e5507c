"""Opens the tokenizer in a folder, of either kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.tokenizer.added_tokens import ADDED_TOKENS, SPECIAL_TOKENS
from tinyllama.tokenizer.chat_template import TEMPLATE_FILE
from tinyllama.tokenizer.end_ids import GENERATION_CONFIG
from tinyllama.tokenizer.json_file import SETTINGS, TOKENIZER_JSON, JsonTokenizer
from tinyllama.tokenizer.sentencepiece_file import TOKENIZER_MODEL, SentencePieceTokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.tokenizer.base import Tokenizer

TOKENIZER_FILES = (
    TOKENIZER_MODEL,
    TOKENIZER_JSON,
    SETTINGS,
    ADDED_TOKENS,
    SPECIAL_TOKENS,
    TEMPLATE_FILE,
    GENERATION_CONFIG,
)
"""Names of the files that a tokenizer consists of, whatever its kind."""


def open_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in a folder: its `tokenizer.model`, or its tokenizer.json if there is no such file.

    Raises:
        CorpusError: the folder has neither file, or the file cannot be read.
    """
    model_file = folder / TOKENIZER_MODEL
    if not model_file.is_file() and (folder / TOKENIZER_JSON).is_file():
        return JsonTokenizer(folder / TOKENIZER_JSON)
    return SentencePieceTokenizer(model_file)
