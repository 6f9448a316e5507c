"""The chat template, which formats a conversation as one text, as transformers keeps it beside a tokenizer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tinyllama.errors import CorpusError

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
        return file.read_text(encoding="utf-8")
    if not settings.is_file():
        return None
    try:
        stated = json.loads(settings.read_text(encoding="utf-8")).get("chat_template")
    except (ValueError, AttributeError) as error:
        raise CorpusError(f"{settings}: is not a JSON object ({error}); download the file again") from error
    if isinstance(stated, list):
        stated = next((entry["template"] for entry in stated if entry["name"] == "default"), None)
    return stated or None
