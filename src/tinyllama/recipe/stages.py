"""Stages in order: where they end in whole steps, what must hold from each to the next, and of their shares."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

from tinyllama.recipe.quantities import LARGEST_BATCH, format_share
from tinyllama.recipe.section import WrongKey
from tinyllama.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from tinyllama.recipe.training import Stage

_MOST_ENTRIES = 2**25
"""Steps times corpora of a plan; about 2 GB of memory. TinyLlama v1.1 has 4 million."""


def batch_sequences(stage: Stage, context: int) -> int:
    """Sequences per step of a stage, of its own context or else the model's."""
    return stage.batch.amount if stage.batch.unit == "sequences" else stage.batch.amount // (stage.context or context)


def batch_tokens(stage: Stage, context: int) -> int:
    """Tokens per step of a stage, of its own context or else the model's."""
    return stage.batch.amount * (1 if stage.batch.unit == "tokens" else stage.context or context)


def partition_name(corpus: str, context: int, own: int) -> str:
    """Name of a corpus's rows of a context; those of the model's own context bear the corpus's name."""
    return corpus if context == own else f"{corpus}@{context}"


def end_tokens(stages: Sequence[Stage], context: int, seen: int) -> list[int]:
    """Tokens seen at the end of each stage: the first whole step that reaches its boundary; `seen` precede them.

    A stage whose boundary the one before it already reaches has no step.
    """
    ends = []
    for stage in stages:
        step = batch_tokens(stage, context)
        seen += max(0, -(-(stage.until - seen) // step)) * step
        ends.append(seen)
    return ends


def check_stages(stages: Sequence[Stage], context: int | None, corpora: int, seen: int) -> None:
    """Refuse stages that do not follow each other, or have no whole batch; `seen` tokens precede them.

    Raises:
        WrongKey: one of them, by its index.
    """
    for index, (before, after) in enumerate(pairwise(stages), 1):
        if after.name in {stage.name for stage in stages[:index]}:
            raise WrongKey(f"stage names must differ, but two are {after.name}", index, "name")
        if after.until <= before.until:
            raise WrongKey(f"stage {after.name} must end after stage {before.name}", index, "until")
        if after.ramp > after.until - before.until:
            raise WrongKey(f"the ramp of stage {after.name} is longer than the stage", index, "ramp")
    if context is not None:
        for index, stage in enumerate(stages):
            _check_batch(index, stage, stage.context or context)
        _check_steps(stages, context, corpora, seen)


def _check_batch(index: int, stage: Stage, context: int) -> None:
    amount, unit = stage.batch
    if not 0 < amount <= LARGEST_BATCH * (1 if unit == "sequences" else context):
        raise WrongKey(f"the batch of stage {stage.name} must be from 1 to {LARGEST_BATCH} sequences", index, "batch")
    if unit == "tokens" and amount % context:
        nearest = max(1, round(amount / context))
        raise WrongKey(
            f"the batch of stage {stage.name}, {amount} tokens, is {amount / context:.2f} sequences of {context}; "
            f"write '{nearest} sequences' or {nearest * context}",
            *(index, "batch"),
        )


def _check_steps(stages: Sequence[Stage], context: int, corpora: int, seen: int) -> None:
    """Refuse a plan whose table, a number for each step and corpus, would not fit into memory."""
    steps = 0
    for index, stage in enumerate(stages):
        steps += max(0, stage.until - seen) // batch_tokens(stage, context)
        seen = stage.until
        if steps * max(corpora, 1) > _MOST_ENTRIES:
            raise WrongKey(
                f"the plan would have {steps:,} steps by the end of stage {stage.name}; end it earlier, or make its "
                f"batch larger (the limit for this number of corpora is {_MOST_ENTRIES // max(corpora, 1):,} steps)",
                *(index, "until"),
            )


def check_shares(shares: Mapping[str, Fraction], corpora: Collection[str] | None, *key: str | int) -> None:
    """Refuse shares that are not whole, or of a corpus that the recipe lacks; `corpora` is None if they are wrong.

    Raises:
        WrongKey: such shares, by their key.
    """
    of = f"variant {key[0]}: " if len(key) == 1 else ""
    for name in shares:
        if corpora is not None and name not in corpora:
            raise WrongKey(no_corpus(name, corpora), *key, name)
    if (total := sum(shares.values(), Fraction(0))) != 1:
        raise WrongKey(f"{of}shares add up to {format_share(total)}, not 100%", *key)


def no_corpus(name: str, corpora: Collection[str]) -> str:
    """The message for a corpus that the recipe lacks."""
    return f"no corpus is named {name!r}{did_you_mean(name, corpora)}; the recipe has {', '.join(corpora)}"
