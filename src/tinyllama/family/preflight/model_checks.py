"""Checks of the model: its plan, tokenizer, prompts, and the model that it starts from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tinyllama.errors import UserError
from tinyllama.family.preflight.situation import Finding
from tinyllama.hub import HUB_ID, access_hint, is_cached, probe
from tinyllama.layout import BASE
from tinyllama.plan import compile_plan
from tinyllama.prepare.tokenizer import open_stated, refuse_other_size
from tinyllama.tokenizer.llama2 import VOCAB_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinyllama.family.preflight.situation import Situation
    from tinyllama.tokenizer.base import Tokenizer


def check_plan(situation: Situation) -> Iterator[Finding]:
    """Every model can be planned, for these ranks."""
    recipe = situation.recipe
    try:
        recipe.hardware.sharded_over(situation.ranks, situation.per_node)
        for model in recipe.models:
            compile_plan(recipe, model)
    except UserError as error:
        yield Finding(str(error))


def check_tokenizer(situation: Situation) -> Iterator[Finding]:
    """A tokenizer that is a file can be opened and has as many ids as the model has embeddings."""
    try:
        if situation.recipe.tokenizer.builtin is not None:
            refuse_other_size(VOCAB_SIZE, situation.recipe)
        elif (tokenizer := situation.tokenizer or open_stated(situation.recipe, situation.root)) is not None:
            refuse_other_size(tokenizer.vocab_size, situation.recipe)
    except UserError as error:
        yield Finding(str(error))


def check_prompts(situation: Situation) -> Iterator[Finding]:
    """The tokenizer encodes every prompt of the report, and leaves room in the context."""
    prompts = situation.recipe.evaluation.prompts
    try:
        tokenizer = situation.tokenizer or (open_stated(situation.recipe, situation.root) if prompts else None)
    except UserError:  # which another check reports
        return
    if tokenizer is not None:
        context = min(situation.recipe.final_shape(model).context for model in situation.recipe.models)
        for prompt in prompts:
            yield from _check_prompt(prompt, tokenizer, context)


def _check_prompt(prompt: str, tokenizer: Tokenizer, context: int) -> Iterator[Finding]:
    """Compare a prompt's ids with the context, and their text with the prompt."""
    ids = tokenizer.encode_prompt(prompt)
    shown = repr(prompt if len(prompt) < 60 else f"{prompt[:57]}…")
    if not ids:
        yield Finding(f"evaluation.prompts: {shown} has no tokens in this tokenizer; remove it or write another one")
    elif len(ids) >= context:
        yield Finding(
            f"evaluation.prompts: {shown} has {len(ids)} tokens, and the model continues prompts of at most "
            f"{context - 1} tokens (model.context: {context}); shorten it"
        )
    elif (spelled := tokenizer.decode(ids)).strip() != prompt.strip():
        yield Finding(
            f"evaluation.prompts: the tokenizer cannot spell {shown}; the model continues {spelled!r} instead",
            is_fault=False,
        )


def check_start(situation: Situation) -> Iterator[Finding]:
    """The model to start from is there and fits the recipe; the hub answers if it has to be downloaded."""
    start = situation.recipe.start
    if start is None or situation.layout.checkpoints(BASE).is_dir():
        return
    if not Path(start.model).exists() and HUB_ID.fullmatch(start.model):
        if not is_cached(start.model) and (answer := probe(start.model)).revision is None:
            yield Finding(
                f"start.model: {start.model} is not in the hub's cache, and the hub cannot give it ({answer.reason}); "
                f"give a folder, or run the command again with a connection. {access_hint(start.model)}"
            )
        return
    from tinyllama.family.import_model import open_start  # imports torch
    from tinyllama.train.import_start import refuse_other_model

    try:
        refuse_other_model(situation.recipe, open_start(situation.recipe))
    except UserError as error:
        yield Finding(str(error))
