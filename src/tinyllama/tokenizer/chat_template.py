"""The chat template, which formats a conversation as one text, as transformers keeps it beside a tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyllama.errors import CorpusError, UserError
from tinyllama.record_files import read_object
from tinyllama.tokenizer.added_tokens import SPECIAL_TOKENS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pydantic import JsonValue

TEMPLATE_FILE = "chat_template.jinja"
"""File that transformers 5 writes; earlier versions put the template into tokenizer_config.json."""
_VARIABLES = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))


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


def read_special_tokens(folder: Path) -> dict[str, str]:
    """Spellings of special tokens by the names that templates know: `bos_token`, `eos_token` and others.

    Raises:
        CorpusError: a file cannot be read.
    """
    stated: dict[str, JsonValue] = {}
    for name in (SPECIAL_TOKENS, "tokenizer_config.json"):
        if (folder / name).is_file():
            stated |= read_object(folder / name, CorpusError, "download the file again")
    found = {name: _spelling(stated.get(name)) for name in _VARIABLES}
    return {name: spelling for name, spelling in found.items() if spelling is not None}


def _spelling(token: JsonValue) -> str | None:
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def render_conversation(
    template: str, messages: Sequence[Mapping[str, str]], special_tokens: Mapping[str, str], *, answer: bool = True
) -> str:
    """A conversation as one text, by transformers' own function, which runs templates in jinja2's immutable sandbox.

    Args:
        template: the model's.
        messages: each with its `role` (system, user, assistant) and `content`.
        special_tokens: see `read_special_tokens`.
        answer: end where the model's answer begins.

    Raises:
        UserError: the template refuses the conversation, is no template, or does what the sandbox forbids.
    """
    from transformers.utils.chat_template_utils import render_jinja_template  # takes a second

    variables: Any = dict(special_tokens)
    try:
        rendered: Any = render_jinja_template(
            [list(map(dict, messages))], chat_template=template, add_generation_prompt=answer, **variables
        )
    except Exception as error:  # a template is a program, which may raise anything
        raise UserError(f"the model's chat template refuses the conversation: {error}") from error
    text: str = rendered[0][0]
    return text
