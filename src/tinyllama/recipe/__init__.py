"""Recipes: one YAML file that states a whole family."""

from tinyllama.recipe.filters import Filter
from tinyllama.recipe.loading import dump_recipe, find_recipe, load_recipe, shipped_recipes
from tinyllama.recipe.schema import Corpus, HeldOut, LearningRate, ModelShape, Recipe, Source, Stage, Start

__all__ = [
    "Corpus",
    "Filter",
    "HeldOut",
    "LearningRate",
    "ModelShape",
    "Recipe",
    "Source",
    "Stage",
    "Start",
    "dump_recipe",
    "find_recipe",
    "load_recipe",
    "shipped_recipes",
]
