"""The JSON schema beside the shipped recipes: `python -m tests.recipe_schema` renews it."""

from __future__ import annotations

import json
from pathlib import Path

import tinyllama
from tinyllama.recipe.editing import recipe_json_schema

FILE = Path(tinyllama.__file__).parent / "recipes/recipe.schema.json"


def text() -> str:
    """The file as it should be."""
    return json.dumps(recipe_json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
