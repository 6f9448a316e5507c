"""Continuations of the recipe's prompts by every trained model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.checkpoint.weights import load_model
from tinyllama.family.trained import identity, read_if_current
from tinyllama.files import sha256_json, write_json
from tinyllama.inference import Sampling, continue_prompts

if TYPE_CHECKING:
    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.family.workspace import Workspace
    from tinyllama.tokenizer.base import Tokenizer

_NEW_TOKENS = 48

Samples = dict[str, dict[str, str]]
"""Prompt → model → text."""


def sample_family(work: Workspace, tokenizer: Tokenizer, checkpoints: dict[str, Checkpoint]) -> Samples:
    """Continue the recipe's prompts with the model card's sampling options, unless that was done."""
    prompts, seed = work.recipe.evaluation.prompts, work.recipe.seed
    inputs = sha256_json([prompts, {name: identity(checkpoint) for name, checkpoint in checkpoints.items()}])
    if (recorded := read_if_current(work.layout.samples, inputs)) is not None:
        kept: Samples = recorded["samples"]
        return kept
    texts: Samples = {prompt: {} for prompt in prompts}
    for model, checkpoint in checkpoints.items():
        weights = load_model(checkpoint, work.recipe.model)
        for prompt in prompts:
            pieces = continue_prompts(weights, tokenizer, [prompt], Sampling(), max_new_tokens=_NEW_TOKENS, seed=seed)
            texts[prompt][model] = "".join(piece for (piece,) in pieces)
    write_json(work.layout.samples, {"inputs": inputs, "samples": texts})
    return texts
