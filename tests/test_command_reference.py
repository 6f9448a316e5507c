"""docs/commands.md lists every command with its options, help and defaults."""

from tests.command_reference import PAGE, commands, page
from tinyllama.cli.app import GROUPS


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.command_reference"


def test_every_command_is_in_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert len(grouped) == len(set(grouped))
    assert {command.path.split()[0] for command in commands()} == set(grouped)


def test_every_option_has_a_help_text_and_every_command_an_example() -> None:
    lines = page().splitlines()
    assert not [line for line in lines if line.startswith("| `") and " |  | " in line]
    assert all(command.epilog.startswith("Example: tinyllama ") for command in commands())
