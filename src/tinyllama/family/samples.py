"""Every trained model's continuations of the recipe's prompts."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from tinyllama.checkpoint.weights import load_model
from tinyllama.errors import ModelError
from tinyllama.family.trained import identity
from tinyllama.files import sha256_json
from tinyllama.formats.open import open_model
from tinyllama.inference import CARD_SAMPLING, continue_prompts
from tinyllama.layout import SAMPLES, averaged
from tinyllama.record_files import write_record
from tinyllama.report.samples import SamplesFile, read_samples

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.family.workspace import Workspace
    from tinyllama.model import Llama
    from tinyllama.recipe import Recipe
    from tinyllama.report.samples import Samples
    from tinyllama.tokenizer.base import Tokenizer

_NEW_TOKENS = 48


def sample_family(work: Workspace, tokenizer: Tokenizer, checkpoints: dict[str, Checkpoint]) -> Samples:
    """Continue the recipe's prompts with the model card's sampling options, unless this was done before."""
    prompts, seed = work.recipe.evaluation.prompts, work.recipe.seed
    inputs = sha256_json([prompts, {name: identity(checkpoint) for name, checkpoint in checkpoints.items()}])
    with suppress(FileNotFoundError, ModelError):  # a damaged file is made again
        recorded = read_samples(work.layout.samples)
        if recorded.inputs == inputs:
            return recorded.samples
    texts: Samples = {prompt: {} for prompt in prompts}
    for model, checkpoint in checkpoints.items():
        shape = work.recipe.shape_at(averaged(model), checkpoint.state.tokens)
        weights = load_model(checkpoint, shape).to(work.device)
        for prompt in prompts:
            texts[prompt][model] = _continue(weights, tokenizer, prompt, seed)
    write_record(work.layout.samples, SamplesFile(inputs=inputs, samples=texts))
    return texts


def sample_copy(copy: Path, recipe: Recipe, folder: Path) -> None:
    """Continue the recipe's prompts with a checkpoint of a model in training, on the CPU.

    Args:
        copy: of the checkpoint.
        recipe: of its family.
        folder: of what was measured of this checkpoint.
    """
    opened = open_model(copy)
    weights, tokenizer, model = opened.load(), opened.tokenizer(), opened.identity().model or opened.name
    texts = {
        prompt: {model: _continue(weights, tokenizer, prompt, recipe.seed)} for prompt in recipe.evaluation.prompts
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder / SAMPLES, SamplesFile(inputs=opened.weights_sha256, samples=texts))


def _continue(weights: Llama, tokenizer: Tokenizer, prompt: str, seed: int) -> str:
    pieces = continue_prompts(weights, tokenizer, [prompt], CARD_SAMPLING, max_new_tokens=_NEW_TOKENS, seed=seed)
    return "".join(piece for (piece,) in pieces)
