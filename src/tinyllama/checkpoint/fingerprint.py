"""What decides a training state, key by key, so that a change is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyllama.errors import CheckpointError
from tinyllama.files import sha256_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tinyllama.plan import Plan
    from tinyllama.recipe import Recipe

Facts = dict[str, Any]
"""Recipe key → value that decides the result."""


def fingerprint_inputs(  # noqa: PLR0913, PLR0917  # a state is decided by that much
    recipe: Recipe, plan: Plan, step: int, corpora: Mapping[str, str], tokenizer: str, start: str | None = None
) -> Facts:
    """Everything that decides the weights after `step` steps of a plan.

    Only what was in force so far counts: a stage's batch and ramp once it has begun, its end once it was passed, a
    variant's shares from the fork on. Later stages, other variants, hardware, logging and evaluation do not.
    Before the first step of a recipe with a start, that is the imported model alone.

    Args:
        recipe: the recipe.
        plan: compiled from it.
        step: steps done.
        corpora: SHA-256 of each prepared corpus's manifest.
        tokenizer: SHA-256 of the tokenizer's model.
        start: SHA-256 of the imported weights that the plan starts from, if it does.
    """
    imported: Facts = {
        "tokenizer": tokenizer,
        **_flat("model", recipe.model.model_dump(mode="json")),
        **_start(recipe, start),
    }
    if start is not None and step == 0:
        return imported
    stage = int(plan.stage[max(step - 1, 0)])
    forked = step > plan.fork_step
    shares = {"base": _shares(recipe.base)}
    if forked and plan.variant is not None:
        shares[f"variants.{plan.variant}"] = _shares(recipe.variants[plan.variant])
    facts: Facts = {
        **imported,
        **({"start.rewarm": recipe.start.rewarm} if recipe.start is not None else {}),
        "seed": recipe.seed,
        "tokenizer.bos": recipe.tokenizer.bos,
        "tokenizer.eos": recipe.tokenizer.eos,
        "document_masking": recipe.document_masking,
        "precision": recipe.precision,
        **_flat("optimizer", recipe.optimizer.model_dump(mode="json")),
        **shares,
    }
    for index, item in enumerate(recipe.stages[: stage + 1]):
        facts[f"stages.{index}.batch"] = recipe.batch_sequences(item)
        facts[f"stages.{index}.ramp"] = item.ramp
        if index < stage:
            facts[f"stages.{index}.until"] = item.until
    used = {name for group in shares.values() for name in group}
    return facts | {f"corpora.{name}": corpora[name] for name in sorted(used)}


def fingerprint(facts: Facts, left_out: Sequence[Sequence[int]] = ()) -> str:
    """Hex SHA-256 of facts, and of the spans of steps whose updates were left out as spikes."""
    return sha256_json({**facts, **({"left_out": left_out} if left_out else {})})


def refuse_change(recorded: Facts, current: Facts, where: str) -> None:
    """Compare a checkpoint's facts with the recipe's.

    Raises:
        CheckpointError: they differ; names the first key and both values.
    """
    for key in sorted(recorded.keys() | current.keys()):
        old, new = recorded.get(key), current.get(key)
        if old != new:
            raise CheckpointError(
                f"{where} was made with {key} = {_short(old)}, the recipe now says {_short(new)}: the result would "
                "differ. Set the key back, or train into another folder with --run"
            )


def difference(by_rank: list[Facts]) -> str | None:
    """What the ranks of a run disagree on, naming rank and key; None if they are about to do the same."""
    first = by_rank[0]
    for rank, facts in enumerate(by_rank):
        for key in sorted(first.keys() | facts.keys()):
            if first.get(key) != facts.get(key):
                return (
                    f"rank {rank} would train with {key} = {_short(facts.get(key))}, rank 0 with "
                    f"{_short(first.get(key))}: give all nodes the same recipe, options and prepared corpora"
                )
    return None


def _start(recipe: Recipe, weights: str | None) -> Facts:
    """What is imported, not where it was read from."""
    if recipe.start is None:
        return {}
    return {"start.weights": weights, "start.tokens": recipe.start.tokens, "start.moments": recipe.start.moments}


def _shares(shares: Mapping[str, object]) -> dict[str, str]:
    return {name: str(share) for name, share in sorted(shares.items()) if share}


def _flat(prefix: str, section: dict[str, Any]) -> Facts:
    flat: Facts = {}
    for key, value in section.items():
        name = f"{prefix}.{key}"
        flat |= _flat(name, value) if isinstance(value, dict) else {name: value}
    return flat


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else text[:12] + "…"
