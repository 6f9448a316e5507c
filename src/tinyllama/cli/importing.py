"""Import the model that a family starts from."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from tinyllama.corpus.tokenizer import imported_folder, open_tokenizer
from tinyllama.engine.source import Source, open_source
from tinyllama.engine.start import import_start, stated_start
from tinyllama.errors import ModelError
from tinyllama.export import check_parity
from tinyllama.model.weights import check_weights

if TYPE_CHECKING:
    from tinyllama.cli.family import Family
    from tinyllama.engine.checkpoint import Checkpoint
    from tinyllama.export import ParityResult

_PROBES = (
    "Hello world", " leading space", "  two", "tab\tand\nline", "naïve café", "人工智能是", "🦙 llama",
    "x = 1_000 + 3.14", "</s><s>[INST]", "▁ and \u0301", "", "don't CAN'T",
)  # fmt: skip
"""Texts that tokenizers of different kinds encode differently."""


def obtain_start(family: Family) -> Source:
    """The model that a family's recipe starts from.

    Raises:
        RecipeError: the recipe states none.
        ModelError: it cannot be opened.
    """
    return open_source(stated_start(family.recipe).model)


def import_family(family: Family) -> tuple[Checkpoint, ParityResult | None]:
    """Check the start's model against transformers, and write it as the family's step-0 checkpoint.

    Returns:
        The checkpoint, and how far transformers' logits are from ours, both reading the source; None for a checkpoint
        of ours, which transformers does not read.

    Raises:
        ModelError: the model does not fit the recipe, or its tokenizer is another one.
        ExportError: the logits differ.
    """
    source = obtain_start(family)
    family.screen.say(f"importing {source.origin}")
    if family.recipe.tokenizer.imported:
        source.write_tokenizer(imported_folder(family.folder / "tokenizer"))
    elif source.has_tokenizer:
        _compare_tokenizers(family, source)
    result = None
    if source.checkpoint is None:
        check_weights(source.weights, source.shape, source.origin, "its configuration")
        result = check_parity(source.weights, source.shape, source.path, torch.float32)
    return import_start(family.recipe, source, family.folder, family.tokenizer.sha256), result


def _compare_tokenizers(family: Family, source: Source) -> None:
    """Refuse a recipe whose tokenizer is not the one that the model was trained with."""
    ours = family.tokenizer
    with TemporaryDirectory() as folder:
        source.write_tokenizer(Path(folder) / "tokenizer")
        theirs = open_tokenizer(Path(folder) / "tokenizer")
    differing = [text for text in _PROBES if ours.encode([text]) != theirs.encode([text])]
    if differing or (ours.bos_id, ours.eos_id) != (theirs.bos_id, theirs.eos_id):
        raise ModelError(
            f"{source.origin}: its tokenizer is not the recipe's (they differ on {differing[:1] or 'BOS or EOS'}); "
            "write tokenizer: {imported: true}"
        )
