"""Recipes: one YAML file that defines a whole family."""

from tinyllama.recipe.filters import Deduplication, Filter, Filters
from tinyllama.recipe.loading import (
    dump_recipe,
    find_recipe,
    is_dumped_recipe,
    load_recipe,
    parse_recipe,
    shipped_recipes,
)
from tinyllama.recipe.running import Evaluation
from tinyllama.recipe.schema import Recipe
from tinyllama.recipe.shape import ModelShape, RopeScaling
from tinyllama.recipe.text import Corpus, HeldOut, Source, TokenizerSettings, TokenizerTraining
from tinyllama.recipe.training import Average, LearningRate, Optimizer, Point, Spikes, Stage, Start
from tinyllama.recipe.tree import Branch, Decay

__all__ = [
    "Average",
    "Branch",
    "Corpus",
    "Decay",
    "Deduplication",
    "Evaluation",
    "Filter",
    "Filters",
    "HeldOut",
    "LearningRate",
    "ModelShape",
    "Optimizer",
    "Point",
    "Recipe",
    "RopeScaling",
    "Source",
    "Spikes",
    "Stage",
    "Start",
    "TokenizerSettings",
    "TokenizerTraining",
    "dump_recipe",
    "find_recipe",
    "is_dumped_recipe",
    "load_recipe",
    "parse_recipe",
    "shipped_recipes",
]
