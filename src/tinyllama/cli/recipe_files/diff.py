"""`tinyllama recipe diff`: the keys in which two recipes differ."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllama.cli.app import AsJson, print_json
from tinyllama.cli.recipe_files.group import recipe_app
from tinyllama.text import MISSING

if TYPE_CHECKING:
    from pydantic import JsonValue

    from tinyllama.recipe.editing import ChangedKey


@recipe_app.command(epilog="Example: tinyllama recipe diff nano runs/nano/recipe.yaml")
def diff(
    first: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe, or path of a YAML file.")],
    second: Annotated[str, typer.Argument(metavar="RECIPE", help="The recipe to compare it with.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Show each key in which two recipes differ, its old and new value, and whether it decides the trained weights."""
    from dataclasses import asdict

    from tinyllama.recipe import load_recipe
    from tinyllama.recipe.editing import differences

    changed = differences(load_recipe(first), load_recipe(second))
    if as_json:
        print_json([asdict(key) for key in changed])
    elif changed:
        _print(changed, first, second)
    else:
        typer.echo("the recipes are equal, defaults included")


def _print(changed: list[ChangedKey], first: str, second: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from tinyllama.cli.tables import output

    table = Table(box=None)
    for name in ("key", first, second, "decides the weights"):
        table.add_column(Text(name), overflow="fold")
    for key in changed:
        effect = "no" if not key.decides else "yes" if key.through is None else f"through {key.through}"
        table.add_row(*map(Text, (key.key, _shown(key.old), _shown(key.new), effect)))
    output().print(table)


def _shown(value: JsonValue) -> str:
    return MISSING if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
