"""The template that lays a conversation out as one text, as transformers keeps it beside a tokenizer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tinyllama.errors import CorpusError

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE_FILE = "chat_template.jinja"
"""Where transformers 5 writes it; before, it stood in tokenizer_config.json."""


def read_chat_template(folder: Path) -> str | None:
    """The Jinja template in a model's or tokenizer's folder; None if it has none, as base models have it.

    Of several in tokenizer_config.json, the one named `default` is taken, as transformers does.

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
        raise CorpusError(f"{settings}: no JSON object can be read from it ({error}); get the file anew") from error
    if isinstance(stated, list):
        stated = next((entry["template"] for entry in stated if entry["name"] == "default"), None)
    return stated or None
