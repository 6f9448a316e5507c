"""Our commands in shell scripts, pages and deployments, as the command line would parse them."""

from __future__ import annotations

import re
import shlex
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.main import get_command

from tinyllama.cli.commands import app

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPERATORS = "();<>|&"
_ROOT: Any = get_command(app)


def commands(script: str) -> Iterator[list[str]]:
    """The words of every `tinyllama` command in a shell script, without what stands before it, such as torchrun."""
    for line in re.sub(r"\\\n\s*", " ", script).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=_OPERATORS)
        lexer.whitespace_split = True
        for is_operator, group in groupby(lexer, lambda word: set(word) <= set(_OPERATORS)):
            words = [] if is_operator else list(group)
            for index, word in enumerate(words):
                if Path(word).name == "tinyllama" and (not index or words[index - 1] in {"--", "-m"}):
                    yield words[index + 1 :]


def parse(words: list[str]) -> None:
    """Parse a command's words, without running it.

    Raises:
        UsageError: typer's, for an unknown command or option, or a value that is no such thing.
    """
    if not words or words[0].startswith("-"):
        _ROOT.make_context("tinyllama", list(words) or ["--version"], resilient_parsing=True)
        return
    node = _ROOT
    while hasattr(node, "commands"):
        assert words, "names a group of commands"
        assert words[0] in node.commands, f"there is no command {words[0]}"
        node, words = node.commands[words[0]], words[1:]
    node.make_context(node.name, list(words), resilient_parsing=False)
