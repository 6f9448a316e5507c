"""`tinyllama recipe schema`: the JSON schema of recipe files."""

from __future__ import annotations

from tinyllama.cli.app import print_json
from tinyllama.cli.recipe_files.group import recipe_app


@recipe_app.command(epilog="Example: tinyllama recipe schema > recipe.schema.json")
def schema() -> None:
    """Print the JSON schema of recipes, with which editors complete, explain and check keys.

    Put `# yaml-language-server: $schema=recipe.schema.json` above a recipe in the folder of the schema.
    """
    from tinyllama.recipe.editing import recipe_json_schema

    print_json(recipe_json_schema())
