"""The chat template, which formats a conversation as one text, as transformers keeps it beside a tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.errors import CorpusError
from tinyllama.record_files import read_object

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE_FILE = "chat_template.jinja"
"""File that transformers 5 writes; earlier versions put the template into tokenizer_config.json."""


def read_chat_template(folder: Path) -> str | None:
    """The Jinja template in the folder of a model or tokenizer; None if there is none, as with base models.

    If tokenizer_config.json has several, the one named `default` is used, as in transformers.

    Raises:
        CorpusError: tokenizer_config.json cannot be read.
    """
    file, settings = folder / TEMPLATE_FILE, folder / "tokenizer_config.json"
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise CorpusError(f"{file}: the chat template is not UTF-8 ({error}); download the file again") from error
    if not settings.is_file():
        return None
    stated = read_object(settings, CorpusError, "download the file again").get("chat_template")
    if isinstance(stated, list):
        named = [entry for entry in stated if isinstance(entry, dict) and entry.get("name") == "default"]
        stated = named[0].get("template") if named else None
    if stated is not None and not isinstance(stated, str):
        raise CorpusError(f"{settings}: chat_template is neither a text nor a list of them; download the file again")
    return stated or None
