"""docs/commands.md, made from the commands themselves: `python -m tests.command_reference` renews it."""

from __future__ import annotations

import inspect
import sys
from enum import Enum
from pathlib import Path
from textwrap import wrap
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_origin, get_type_hints

from typer import Context
from typer.models import ArgumentInfo, OptionInfo

from tinyllama.cli.app import GROUPS
from tinyllama.cli.commands import app
from tinyllama.text import markdown_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typer import Typer

PAGE = Path(__file__).parent.parent / "docs/commands.md"
HEAD = """# Commands

`python -m tests.command_reference` writes this page from the commands themselves; `tinyllama COMMAND -h` prints the
same. Results go to stdout, progress and messages to stderr. A command exits with 0 on success, 2 after a user's
mistake or on a full disk, 1 after another error, and 130 or 143 after a signal.

`tinyllama --install-completion` lets bash, zsh, fish or PowerShell complete commands and options with Tab, from the
next shell on; `tinyllama --show-completion` prints the script instead.
"""
_KINDS = {bool: "", int: "N", float: "X", str: "TEXT", Path: "PATH"}
_DEFAULTS = {sys.executable: "this interpreter"}
"""Defaults that differ from machine to machine."""


class Command(NamedTuple):
    """One command."""

    path: str
    """As it is typed, e.g. `corpus verify`."""
    function: Callable[..., Any]
    epilog: str


def page() -> str:
    """The whole page: the commands of each group, in the order of the help text."""
    parts = [HEAD]
    for group, names in GROUPS.items():
        parts.append(f"## {group}\n")
        parts += [_section(command) for name in names for command in commands() if command.path.split()[0] == name]
    return "\n".join(parts)


def commands(application: Typer = app, prefix: str = "") -> Iterator[Command]:
    """Every command of an application, and those of its groups of commands."""
    for info in application.registered_commands:
        assert info.callback is not None
        name = info.name or info.callback.__name__.replace("_", "-")
        yield Command(f"{prefix}{name}", info.callback, info.epilog or "")
    for group in application.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, f"{prefix}{group.name} ")


def _section(command: Command) -> str:
    hints = get_type_hints(command.function, include_extras=True)
    words: list[str] = []
    rows: list[list[str]] = []
    options = 0
    for name, parameter in inspect.signature(command.function).parameters.items():
        if hints[name] is Context:
            continue
        kind, info = _annotated(hints[name])
        if isinstance(info, ArgumentInfo):
            word = info.metavar or name.upper()
            is_bare = parameter.default is inspect.Parameter.empty or word.startswith("[")
            words.append(word if is_bare else f"[{word}]")
            rows.insert(len(rows) - options, _row(word, kind, info, parameter.default))
        else:
            rows.append(_row(_spelling(name, kind, info), kind, info, parameter.default))
            options += 1
    usage = " ".join(["tinyllama", command.path, *words, *(["[OPTIONS]"] if options else [])])
    example = command.epilog.removeprefix("Example: ")
    paragraphs = (inspect.getdoc(command.function) or "").split("\n\n")
    return "\n\n".join([
        f"### tinyllama {command.path}",
        *("\n".join(wrap(_escaped(paragraph), 120, break_on_hyphens=False)) for paragraph in paragraphs),
        f"```text\n{usage}\n```",
        markdown_table(["argument or option", "meaning", "default"], rows),
        *([f"Example: `{example}`"] if example else []),
    ]) + "\n"  # fmt: skip


def _annotated(hint: object) -> tuple[object, ArgumentInfo | OptionInfo]:
    """What a parameter holds, and how typer shows it."""
    kind, *rest = get_args(hint)
    (info,) = (item for item in rest if isinstance(item, ArgumentInfo | OptionInfo))
    return next((inner for inner in get_args(kind) if inner is not NoneType), kind) if _is_optional(
        kind
    ) else kind, info


def _is_optional(kind: object) -> bool:
    return NoneType in get_args(kind)


def _spelling(name: str, kind: object, info: OptionInfo) -> str:
    """`--nodes N`, or a flag alone."""
    # Inside Annotated, typer stores the first name where a default would stand.
    first = [info.default] if isinstance(info.default, str) else []
    names = ", ".join([*first, *(info.param_decls or ())] or [f"--{name.replace('_', '-')}"])
    return " ".join(filter(None, [names, info.metavar or _value(kind)]))


def _value(kind: object) -> str:
    """What stands for an option's value."""
    if get_origin(kind) is list:
        return _value(get_args(kind)[0])
    assert isinstance(kind, type)
    return "|".join(str(item.value) for item in kind) if issubclass(kind, Enum) else _KINDS[kind]


def _row(spelling: str, kind: object, info: ArgumentInfo | OptionInfo, default: object) -> list[str]:
    text = info.help or ""
    if isinstance(info, OptionInfo) and get_origin(kind) is list and "repeated" not in text:
        text += " May be repeated."
    if info.envvar:
        text += f" Environment variable: `{info.envvar}`."
    return [f"`{spelling}`".replace("|", "\\|"), _escaped(text).replace("|", "\\|"), _default(default)]


def _escaped(text: str) -> str:
    """Text of one line in which Markdown sees no HTML."""
    return " ".join(text.split()).replace("<", "\\<")


def _default(default: object) -> str:
    if default in {inspect.Parameter.empty, ...}:
        return "**required**"
    if default is None or default is False:
        return ""
    value = str(default.value if isinstance(default, Enum) else default)
    return _DEFAULTS.get(value, f"`{value}`")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
