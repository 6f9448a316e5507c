"""What decides a training state, key by key, so that a change is refused by name.

Which keys of a recipe these are is stated in its schema, beside each key: see `recipe/classification.py`. This module
adds what represents the other keys (hashes, shares in force) and leaves out what was not in force yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ConfigDict, JsonValue, RootModel
from pydantic_core import to_jsonable_python

from tinyllama.checkpoint.legacy import SKIPPED_IN_FINGERPRINTS, inputs_in_force
from tinyllama.errors import CheckpointError
from tinyllama.files import sha256_json
from tinyllama.layout import BASE
from tinyllama.recipe import Recipe
from tinyllama.recipe.classification import absent_value, without_absent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from fractions import Fraction

    from tinyllama.plan import Plan

_WEIGHTS = "start.weights"
_AT_EOS = "at EOS"
"""Value of `document_masking` where EOS separates the documents; earlier versions masked nothing there."""
_NOT_IMPORTED = {"tokenizer.bos", "tokenizer.eos", "start.rewarm"}
"""Keys that act from the first step on, so that an imported model does not depend on them."""


class FingerprintInputs(RootModel[dict[str, JsonValue]]):
    """Dotted recipe key → value, for everything that decides the weights."""

    model_config = ConfigDict(frozen=True)

    @property
    def start_weights(self) -> str | None:
        """SHA-256 of the imported weights that training started from; None if it started from random ones."""
        value = self.root.get(_WEIGHTS)
        return None if value is None else str(value)

    def fingerprint(self, skipped: Sequence[tuple[int, int]] = ()) -> str:
        """Hex SHA-256 of the inputs, and of the spans of steps whose updates were skipped as spikes."""
        return sha256_json(self.root | ({SKIPPED_IN_FINGERPRINTS: list(map(list, skipped))} if skipped else {}))

    def refuse_change(self, current: FingerprintInputs, where: str) -> None:
        """Compare these inputs, recorded at `where`, with those of the recipe as it is now.

        Raises:
            CheckpointError: they differ; names the first key and both values.
        """
        recorded = inputs_in_force(self.root)
        for key in sorted(recorded.keys() | current.root.keys()):
            absent = to_jsonable_python(absent_value(Recipe, key), fallback=str)
            old, new = recorded.get(key, absent), current.root.get(key, absent)
            if old != new:
                raise CheckpointError(
                    f"{where} was made with {key} = {_short(old)}, the recipe now says {_short(new)}: the weights "
                    f"would differ. Set the key back, or train into another folder with --run{_continuing(key, where)}"
                )


def _continuing(key: str, where: str) -> str:
    """How these weights can be trained on with another value of a key that says how to train, not what."""
    if key.startswith(("optimizer.", "stages.")):
        return f", there from these weights if `start` names them: start: {{model: {where}, moments: kept, …}}"
    return ""


def fingerprint_inputs(  # noqa: PLR0913, PLR0917  # a state is decided by that much
    recipe: Recipe,
    plan: Plan,
    step: int,
    corpora: Mapping[str, JsonValue],
    tokenizer: JsonValue,
    start: str | None = None,
) -> FingerprintInputs:
    """Everything that decides the weights after `step` steps of a plan.

    Only what was in force so far counts: a stage's keys once it has begun, its end once it was passed, a variant's
    shares from the fork on. Later stages and other variants do not. Up to a branch's fork, all is its parent's.
    Before the first step of a recipe with a start, that is the imported model alone.

    Args:
        recipe: the recipe.
        plan: compiled from it.
        step: steps done.
        corpora: SHA-256 of each prepared corpus's manifest.
        tokenizer: SHA-256 of the tokenizer's model.
        start: SHA-256 of the imported weights that the plan starts from, if it does.
    """
    stage = int(plan.stage[max(step - 1, 0)]) if plan.steps else 0
    model = plan.variant or BASE
    while model in recipe.branches and stage < recipe.line(model).fork_index:
        model = recipe.parent(model)  # whose state it is up to the fork
    recipe = recipe.line(model)
    rate = recipe.optimizer.learning_rate.in_force(plan.tokens_after(step))
    optimizer = recipe.optimizer.model_copy(update={"learning_rate": rate})
    values = _flat(without_absent(recipe.model_copy(update={"optimizer": optimizer}))) | {"tokenizer": tokenizer}
    del values["stages"]
    if recipe.document_masking and not recipe.tokenizer.bos:
        values["document_masking"] = _AT_EOS
    if recipe.start is not None:
        values[_WEIGHTS] = start
    if start is not None and step == 0:
        return FingerprintInputs({key: value for key, value in values.items() if _of_the_import(key)})
    for index, item in enumerate(recipe.stages[: stage + 1]):
        keys = without_absent(item) | {"batch": recipe.batch_sequences(item)}
        if item.context == recipe.model.context:
            del keys["context"]
        if index == stage:
            del keys["until"]
        values |= _flat(keys, f"stages.{index}.")
    shares, models = {"base": _shares(recipe.base)}, [BASE]
    if model != BASE and step and stage >= recipe.fork_index:
        shares[f"variants.{model}"] = _shares(recipe.variants[model])
        models.append(model)
    for name in models:
        begun = [(index, own) for index, own in recipe.own_shares(name)[1:] if index <= stage]
        shares |= {f"stages.{index}.shares": _shares(own) for index, own in begun}
    used = {corpus for group in shares.values() for corpus in group}
    return FingerprintInputs(values | shares | {f"corpora.{corpus}": corpora[corpus] for corpus in used})


def difference(by_rank: Sequence[Mapping[str, JsonValue]]) -> str | None:
    """What the ranks of a run disagree on, naming rank and key; None if they are about to do the same."""
    first = by_rank[0]
    for rank, inputs in enumerate(by_rank):
        for key in sorted(first.keys() | inputs.keys()):
            if first.get(key) != inputs.get(key):
                return (
                    f"rank {rank} would train with {key} = {_short(inputs.get(key))}, rank 0 with "
                    f"{_short(first.get(key))}: give all nodes the same recipe, options and prepared corpora"
                )
    return None


def _of_the_import(key: str) -> bool:
    """Whether a key decides what an imported model is before its first step."""
    return key.partition(".")[0] in {"model", "start", "tokenizer"} and key not in _NOT_IMPORTED


def _shares(shares: Mapping[str, Fraction]) -> dict[str, JsonValue]:
    return {name: str(share) for name, share in sorted(shares.items()) if share}


def _flat(section: Mapping[str, JsonValue], prefix: str = "") -> dict[str, JsonValue]:
    """Nested keys as dotted ones."""
    flat: dict[str, JsonValue] = {}
    for key, value in section.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else text[:12] + "…"
