"""The commands about recipe files: `recipe schema` and `recipe diff`."""

from tinyllama.cli.recipe_files import diff, print_schema

__all__ = ["diff", "print_schema"]
