"""The group of commands `tinyllama recipe`."""

from __future__ import annotations

import typer

from tinyllama.cli.app import HELP_OPTIONS, app

recipe_app = typer.Typer(
    help="Compare recipes, and print their schema for editors.",
    epilog="Example: tinyllama recipe diff nano mini",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=HELP_OPTIONS,
)
app.add_typer(recipe_app, name="recipe")
