"""docs/commands.md lists every command with its options, help and defaults; texts name only options that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tinyllama
from tests.command_reference import PAGE, commands, page
from tinyllama.cli.app import GROUPS

if TYPE_CHECKING:
    from collections.abc import Iterator

OPTION = re.compile(r"(?<![\w(:;-])--[a-z0-9-]*[a-z0-9](?![\w-])")
COMMAND = re.compile(r"tinyllama ([a-z]+[^`\n]*)")
OF_OTHERS = {
    "--model": "lm_eval",
    "--security-opt": "podman",
    "--head": "ray",
    "--me": "scancel",
    "--name": "scancel",
    "--mem": "sbatch",
    "--kill-on-bad-exit": "srun",
    "--wait": "srun",
    **dict.fromkeys(["--nnodes", "--rdzv-backend", "--rdzv-endpoint", "--rdzv-id"], "torchrun"),
    **dict.fromkeys(["--shutdown-timeout", "--signals-to-handle"], "torchrun"),
}
"""Options that texts name, of other programs."""


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.command_reference"


def test_usage_lines_close_every_bracket_that_they_open() -> None:
    usages = re.findall(r"```text\n(tinyllama .*)\n```", page())
    assert len(usages) == len(list(commands()))
    assert [usage for usage in usages if usage.count("[") != usage.count("]")] == []


def test_every_command_is_in_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert len(grouped) == len(set(grouped))
    assert {command.path.split()[0] for command in commands()} == set(grouped)


def test_every_option_has_a_help_text_and_every_command_an_example() -> None:
    lines = page().splitlines()
    assert not [line for line in lines if line.startswith("| `") and " |  | " in line]
    assert all(command.epilog.startswith("Example: tinyllama ") for command in commands())


def texts() -> Iterator[tuple[str, str]]:
    """(file and line, text) of every literal of more than one word, f-strings and docstrings among them."""
    source = Path(tinyllama.__file__).parent
    for path in sorted(source.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                text = "".join(map(str, parts))
            else:
                text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if " " in text.strip():
                yield f"{path.relative_to(source)}:{node.lineno}", text  # type: ignore[attr-defined]


def options() -> dict[str, set[str]]:
    """Command → its options; those of groups of commands are by the whole path."""
    sections = page().split("\n### tinyllama ")[1:]
    return {section.partition("\n")[0]: {*OPTION.findall(section), "--help"} for section in sections}


def wrong_options(text: str, of: dict[str, set[str]]) -> list[str]:
    """Options in a text that no command has, or not the command that the text spells with them."""
    known = {option for found in of.values() for option in found} | {"--version"}
    wrong = [option for option in OPTION.findall(text) if option not in known and option not in OF_OTHERS]
    for spelled in COMMAND.findall(text):
        (first, *_) = spelled.split()
        fitting = [found for path, found in of.items() if f"{spelled} ".startswith(f"{path} ")]
        if fitting and first in {path.split()[0] for path in of}:
            wrong += [f"{first} {option}" for option in OPTION.findall(spelled) if option not in set.union(*fitting)]
    return wrong


def test_texts_name_only_options_that_the_commands_have() -> None:
    of, found = options(), list(texts())
    assert [f"{place}: {option}" for place, text in found for option in wrong_options(text, of)] == []
    named = {option for _, text in found for option in OPTION.findall(text)}
    assert named >= OF_OTHERS.keys(), "options of other programs that no text names any more"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("evaluate without --dtype first", ["--dtype"]),
        ("run `tinyllama evaluate x --fetch y`, then --run z", []),
        ("run `tinyllama evaluate x --rungs 2`", ["evaluate --rungs"]),
        ("Example: tinyllama corpus verify runs/x --rungs 2", ["corpus --rungs"]),
        ("border: var(--model-0)", []),
    ],
)
def test_an_option_of_no_command_or_of_another_one_is_found(text: str, wrong: list[str]) -> None:
    assert wrong_options(text, options()) == wrong
