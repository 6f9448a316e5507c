"""The help texts: grouped, one line for each command, `-h` everywhere, an example for each."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from torch.distributed.run import get_args_parser
from typer.testing import CliRunner

from tinyllama.cli.app import GROUPS
from tinyllama.cli.commands import app

ROOT: Any = typer.main.get_command(app)


def _commands(group: Any, *path: str) -> Iterator[tuple[str, ...]]:  # noqa: ANN401  # click's, at a private path in typer
    for name, command in group.commands.items():
        yield (*path, name)
        if hasattr(command, "commands"):
            yield from _commands(command, *path, name)


ALL = list(_commands(ROOT))


def test_every_command_is_in_one_group_of_the_help_text() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(ROOT.commands)


def test_every_command_fits_on_a_line_of_80_columns() -> None:
    shown = CliRunner().invoke(app, ["--help"], terminal_width=80).output
    for group, names in GROUPS.items():
        section = shown.split(f"{group}:\n")[1].split("\n\n")[0].splitlines()
        assert [line.split()[0] for line in section] == list(names)
        assert all(len(line) <= 80 and not line.endswith("...") for line in section)


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_every_command_answers_to_h_with_an_example(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*command, "-h"], terminal_width=200)
    assert result.exit_code == 0
    assert f"Example: tinyllama {command[0]}" in result.output


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_every_option_is_explained(command: tuple[str, ...]) -> None:
    node = ROOT
    for name in command:
        node = node.commands[name]
    for parameter in node.params:
        help_text = getattr(parameter, "help", None) or ""
        assert re.match(r"[A-Z-].*\.$|bf16|An? ", help_text), f"{parameter.name}: {help_text!r}"


def test_the_line_for_several_gpus_leaves_every_option_to_train() -> None:
    text = CliRunner().invoke(app, ["train", "--help"], terminal_width=200).output
    line = next(line for line in text.splitlines() if "torchrun" in line).partition("torchrun ")[2].strip()
    asked = get_args_parser().parse_args([*line.split(), "--run", "folder", "--set", "seed=2"])
    assert asked.module
    assert asked.training_script == "tinyllama"
    assert asked.training_script_args == ["train", "RECIPE", "--run", "folder", "--set", "seed=2"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str) -> None:
    variables = {"_TINYLLAMA_COMPLETE": f"source_{shell}"}
    script = CliRunner().invoke(app, [], env=variables, prog_name="tinyllama").output
    assert "_TINYLLAMA_COMPLETE" in script
    asked = {"_TINYLLAMA_COMPLETE": "complete_bash", "COMP_WORDS": "tinyllama rec", "COMP_CWORD": "1"}
    found = CliRunner().invoke(app, [], env=asked, prog_name="tinyllama").output
    assert found.split() == ["recipes", "recipe"]
