"""Import the model that a family starts from."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from tinyllama.errors import ModelError
from tinyllama.export import check_parity
from tinyllama.formats.open import open_model
from tinyllama.model.stored_weights import check_weights
from tinyllama.tokenizer.opening import open_tokenizer
from tinyllama.train.import_start import import_start, refuse_other_model, stated_start

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.export import ParityResult
    from tinyllama.family.progress import Progress
    from tinyllama.formats.model_source import OpenModel
    from tinyllama.layout import FamilyLayout
    from tinyllama.recipe import Recipe
    from tinyllama.tokenizer.base import Tokenizer

_PROBES = (
    "Hello world", " leading space", "  two", "tab\tand\nline", "naïve café", "人工智能是", "🦙 llama",
    "x = 1_000 + 3.14", "</s><s>[INST]", "▁ and \u0301", "", "don't CAN'T",
)  # fmt: skip
"""Texts that tokenizers of different kinds encode differently."""


def open_start(recipe: Recipe) -> OpenModel:
    """The model that a recipe starts from.

    Raises:
        RecipeError: the recipe has no `start`.
        ModelError: the model cannot be opened.
    """
    return open_model(stated_start(recipe).model)


def import_model(
    recipe: Recipe, layout: FamilyLayout, tokenizer: Callable[[], Tokenizer], progress: Progress
) -> tuple[Checkpoint, ParityResult | None]:
    """Check the starting model against transformers, and write it as the family's step-0 checkpoint.

    Args:
        recipe: recipe with a `start` section.
        layout: the family's paths.
        tokenizer: returns the family's tokenizer, which may be the imported one.
        progress: receives messages.

    Returns:
        The checkpoint, and the largest difference between transformers' logits and ours on the source model; None for
        a TinyLlama checkpoint, which transformers cannot read.

    Raises:
        ModelError: the model does not fit the recipe, or its tokenizer is not the recipe's.
        ExportError: the logits differ.
    """
    source = open_start(recipe)
    progress.say(f"importing {source.origin}")
    _refuse_mismatches(recipe, source, tokenizer)  # takes no time; what follows does
    if recipe.tokenizer.imported:
        source.write_tokenizer(layout.imported_tokenizer)
    result = None
    if source.read_by_transformers:
        check_weights(source.weights, source.shape, source.origin, "its configuration")
        result = check_parity(source.weights, source.shape, source.path, torch.float32)
    return import_start(recipe, source, layout.root, tokenizer().sha256), result


def _refuse_mismatches(recipe: Recipe, source: OpenModel, tokenizer: Callable[[], Tokenizer]) -> None:
    """Name all that differs between a model and the recipe, before any tensor is read."""
    checks: list[Callable[[], None]] = [lambda: refuse_other_model(recipe, source)]
    if source.has_tokenizer and not recipe.tokenizer.imported:
        checks.append(lambda: _compare_tokenizers(tokenizer(), source))
    mismatches = []
    for check in checks:
        try:
            check()
        except ModelError as error:
            mismatches.append(str(error))
    if mismatches:
        raise ModelError("\n".join(mismatches))


def _compare_tokenizers(ours: Tokenizer, source: OpenModel) -> None:
    """Reject a recipe whose tokenizer is not the one that the model was trained with."""
    with TemporaryDirectory() as folder:
        source.write_tokenizer(Path(folder) / "tokenizer")
        theirs = open_tokenizer(Path(folder) / "tokenizer")
    differing = [text for text in _PROBES if ours.encode([text]) != theirs.encode([text])]
    if differing or (ours.bos_id, ours.eos_id) != (theirs.bos_id, theirs.eos_id):
        raise ModelError(
            f"{source.origin}: its tokenizer is not the recipe's (they differ on {differing[:1] or 'BOS or EOS'}); "
            "write tokenizer: {imported: true}"
        )
