"""What helps to write recipes: their JSON schema for editors, and the difference of two."""

from tinyllama.recipe.editing.difference import ChangedKey, differences
from tinyllama.recipe.editing.docstrings import docstrings
from tinyllama.recipe.editing.json_schema import recipe_json_schema

__all__ = ["ChangedKey", "differences", "docstrings", "recipe_json_schema"]
