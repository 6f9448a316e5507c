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
_INCOMPLETE = {"MissingParameter", "BadOptionUsage", "Exit"}
"""Errors of typer, which exports no names of them: an argument or an option's value is missing, and --help."""


def programs(script: str) -> Iterator[list[str]]:
    """The words of every command in a shell script, without assignments before it and files of redirections."""
    for line in re.sub(r"\\\n\s*", " ", script).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=_OPERATORS)
        lexer.whitespace_split = True
        is_file = False
        for is_operator, group in groupby(lexer, lambda word: bool(word) and set(word) <= set(_OPERATORS)):
            words = list(group)
            if is_operator:
                is_file = bool({"<", ">"} & set("".join(words)))
                continue
            while words and re.match(r"\w+=", words[0]):
                del words[0]
            if words and not is_file:
                yield words


def commands(script: str) -> Iterator[list[str]]:
    """The words of every `tinyllama` command in a shell script, without what stands before it, such as torchrun."""
    for words in programs(script):
        for index, word in enumerate(words):
            if Path(word).name == "tinyllama" and (not index or words[index - 1] in {"--", "-m"}):
                yield words[index + 1 :]


def parse(words: list[str], *, in_prose: bool = False) -> None:
    """Parse a command's words, without running it.

    Args:
        words: without `tinyllama` itself.
        in_prose: the words are a mention, in which arguments and values may be missing, and COMMAND is any command.

    Raises:
        UsageError: typer's, for an unknown command or option, or a value that is no such thing.
    """
    if not words or words[0].startswith("-"):
        _ROOT.make_context("tinyllama", list(words) or ["--version"], resilient_parsing=True)
        return
    node = _ROOT
    while hasattr(node, "commands"):
        if in_prose and words[:1] in ([], ["COMMAND"]):
            return
        assert words, "names a group of commands"
        assert words[0] in node.commands, f"there is no command {words[0]}"
        node, words = node.commands[words[0]], words[1:]
    try:
        node.make_context(node.name, list(words), resilient_parsing=False)
    except Exception as error:
        if not (in_prose and type(error).__name__ in _INCOMPLETE):
            raise
