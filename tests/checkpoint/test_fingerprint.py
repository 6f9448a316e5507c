"""What decides the weights is in the fingerprint: every key of the schema, but those that are classified otherwise."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, cast

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tinyllama.checkpoint.fingerprint import FingerprintInputs, fingerprint_inputs
from tinyllama.errors import CheckpointError
from tinyllama.plan import compile_plan
from tinyllama.recipe import ModelShape, Point, Recipe, load_recipe
from tinyllama.recipe.classification import Absent, decides, marker
from tinyllama.recipe.quantities import Batch
from tinyllama.recipe.section import section_of

# Computed by commit 4bd9be0; a family that it wrote can be resumed only while these hold.
WRITTEN = {
    ("nano", None, 0): "52ea1089fd7c341edb9d009282e8a1c5d140c1fb210cf2695ee2e83771cbd74c",
    ("nano", "math_code", -1): "0b8488e3ce2757b2ca479ad76bad660dfae36f463286661cde5ff8e14ad57f95",
    ("mini", "v1.1", 1): "b6f1da3ebeb720e311bc66224cb10846e91b9c5656532c6d8d6a0622e18bd150",
    ("mini", "chinese", -1): "cc0628143e9efa3b27cb26edcfe638ecfb74423695266758f9deaf9a32404a75",
    ("continue", None, 0): "39fa9fddbaec1fb6b3cd9f894855b6f0fbed79493323ec4f44b33735a63fdf1a",
    ("continue", "math_code", -1): "69170b0bed8d8831a85651a8d8b2bc2e9160e87e6cfda5327b5958c65f5e0272",
}
AS_THEN = {
    "mini": [
        "model.vocab_size=32000", "tokenizer={builtin: llama2}", "optimizer.learning_rate.horizon=2.85M",
        "stages.0.until=1.75M", "stages.1.until=2.55M", "stages.2.until=2.85M",
    ]
}  # fmt: skip
"""Keys that a shipped recipe had at 4bd9be0."""
WITH_SKIPPED = "62cdfe745a0d67e917150e816070eb99fca1af62e58b56430710a4954586a23e"
"""Of continue's `chinese` at its end, without steps 3, 4 and 7."""

ALWAYS_WRITTEN = {
    *(f"model.{key}" for key in (
        "layers", "width", "ffn", "heads", "kv_heads", "context", "vocab_size", "rope_theta", "norm_eps",
        "tied_embeddings",
    )),
    *(f"optimizer.{key}" for key in ("kind", "betas", "eps", "weight_decay", "clip")),
    *(f"optimizer.learning_rate.{key}" for key in ("peak", "minimum", "warmup", "horizon")),
    *(f"stages.{key}" for key in ("until", "batch", "ramp")),
    *(f"start.{key}" for key in ("tokens", "moments", "rewarm")),
    "seed", "tokenizer.bos", "tokenizer.eos", "document_masking", "precision",
}  # fmt: skip
"""Keys that 4bd9be0 had, and wrote whatever their value. Nothing is ever added here: a later key takes `Absent`."""


def _inputs(recipe: Recipe, variant: str | None = None, step: int = -1) -> FingerprintInputs:
    plan = compile_plan(recipe, variant)
    hashes = {name: name * 3 for name in recipe.corpora}
    start = "w" * 8 if recipe.start else None
    return fingerprint_inputs(recipe, plan, plan.steps if step == -1 else step, hashes, "tok", start)


@pytest.mark.parametrize(("name", "variant", "step"), WRITTEN, ids=str)
def test_shipped_recipes_have_the_fingerprints_that_4bd9be0_computed(name: str, variant: str | None, step: int) -> None:
    recipe = load_recipe(name, AS_THEN.get(name, []))
    assert _inputs(recipe, variant, step).fingerprint() == WRITTEN[name, variant, step]


def test_skipped_steps_are_hashed_as_4bd9be0_hashed_them() -> None:
    assert _inputs(load_recipe("continue"), "chinese").fingerprint(((3, 4), (7, 7))) == WITH_SKIPPED


def _deciding(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of the schema that is itself in the fingerprint, by its dotted name."""
    for name, field in section.model_fields.items():
        if not decides(field):
            continue
        inner = section_of(field.annotation)
        if inner is None:
            yield f"{prefix}{name}", field
        else:
            yield from _deciding(inner, f"{prefix}{name}.")


DECIDING = dict(_deciding(Recipe))
_REQUIRED = {key for key, field in DECIDING.items() if field.is_required()}
"""Keys that a later section cannot be without; older files lack the section."""


def test_a_key_that_came_after_4bd9be0_says_what_its_absence_means() -> None:
    later = {key for key, field in DECIDING.items() if marker(field, Absent) is None} - ALWAYS_WRITTEN - _REQUIRED
    assert not later, (
        "classify these keys in the schema: Absent(…) with what versions without the key did, or DECIDES_NOTHING"
    )


def test_no_key_that_4bd9be0_wrote_is_lost() -> None:
    assert not ALWAYS_WRITTEN - DECIDING.keys()


BASE = load_recipe(
    "nano",
    [
        "average.half_life=1K",
        "start={model: m, tokens: 64, moments: fresh, rewarm: 1K}",
        "model.rope_scaling={kind: llama3, factor: 2}",
        "stages.0.rope_scaling={kind: llama3, factor: 2}",
    ],
)
_RATE = BASE.optimizer.learning_rate.model_copy(update={"points": [Point(tokens=10**4, factor=0.5)]})
BASE = BASE.model_copy(update={"optimizer": BASE.optimizer.model_copy(update={"learning_rate": _RATE})})
"""A recipe in which every key is in the fingerprint, also those of another schedule."""
OTHER: dict[str, Any] = {
    "seed": 9,
    "model.layers": 3, "model.width": 128, "model.ffn": 999, "model.heads": 2, "model.kv_heads": 1,
    "model.context": 32, "model.rope_theta": 2e4, "model.norm_eps": 1e-6, "model.tied_embeddings": True,
    "model.head_dim": 12, "model.rope_scaling.kind": "yarn", "model.rope_scaling.factor": 3.0,
    "model.rope_scaling.original_context": 8, "model.rope_scaling.low_freq_factor": 2.0,
    "model.rope_scaling.high_freq_factor": 3.0, "model.rope_scaling.beta_fast": 16.0,
    "model.rope_scaling.beta_slow": 2.0, "model.rope_scaling.attention_factor": 1.5,
    "model.vocab_size": 777, "tokenizer.bos": False, "tokenizer.eos": False, "document_masking": True,
    "precision": "fp32", "optimizer.kind": "muon", "optimizer.betas": (0.8, 0.9), "optimizer.eps": 1e-7,
    "optimizer.weight_decay_of": "matrices", "optimizer.learning_rate_factors.embeddings": 2.0,
    "optimizer.learning_rate_factors.head": 2.0, "optimizer.learning_rate_factors.matrices": 2.0,
    "parametrization": "mup", "base_width": 128, "optimizer.z_loss": 1e-4, "average.half_life": 2000,
    "optimizer.weight_decay": 0.2, "optimizer.clip": 2.0, "optimizer.learning_rate.peak": 0.5,
    "optimizer.learning_rate.minimum": 1e-9, "optimizer.learning_rate.warmup": 9,
    "optimizer.learning_rate.horizon": 10**9, "optimizer.learning_rate.schedule": "constant",
    "optimizer.learning_rate.decay_from": 9, "optimizer.learning_rate.decay": "linear",
    "optimizer.learning_rate.points.tokens": 9, "optimizer.learning_rate.points.factor": 0.1,
    "optimizer.learning_rate.between": "step", "start.tokens": 128, "start.moments": "kept", "start.rewarm": 7,
    "stages.until": 10**5, "stages.batch": Batch(8, "sequences"), "stages.ramp": 7, "stages.learning_rate_factor": 0.5,
    "stages.context": 32, "stages.rope_theta": 2e4,
    "stages.rope_scaling.kind": "yarn", "stages.rope_scaling.factor": 3.0, "stages.rope_scaling.original_context": 8,
    "stages.rope_scaling.low_freq_factor": 2.0, "stages.rope_scaling.high_freq_factor": 3.0,
    "stages.rope_scaling.beta_fast": 16.0, "stages.rope_scaling.beta_slow": 2.0,
    "stages.rope_scaling.attention_factor": 1.5,
}  # fmt: skip
"""Key → a value that differs from BASE's; a key that is not here fails the test below."""
PLAN = compile_plan(BASE, "math_code")


def _of(recipe: Recipe) -> FingerprintInputs:
    """Inputs at the end of BASE's plan, where every stage is in force."""
    return fingerprint_inputs(recipe, PLAN, PLAN.steps, dict.fromkeys(BASE.corpora, "hash"), "tok", "weights")


def _with(section: BaseModel, path: list[str], value: object) -> BaseModel:
    """A section with another value of a key, unvalidated; in lists, of the first member."""
    name, *rest = path
    if rest:
        inner = getattr(section, name)
        value = [_with(inner[0], rest, value), *inner[1:]] if isinstance(inner, list) else _with(inner, rest, value)
    return section.model_copy(update={name: value})


def _written_as(key: str) -> str:
    return re.sub(r"(\.points)\..*", r"\1", key.replace("stages.", "stages.0."))


@pytest.mark.parametrize("key", DECIDING)
def test_another_value_of_a_key_that_decides_is_refused_by_name(key: str) -> None:
    changed = _with(BASE, key.split("."), OTHER[key])
    with pytest.raises(CheckpointError, match=rf"a/step-9 was made with {_written_as(key)} = ") as refused:
        _of(BASE).refuse_change(_of(cast("Recipe", changed)), "a/step-9")
    names_the_way = "start: {model: a/step-9, moments: kept, …}" in str(refused.value)
    assert names_the_way == key.startswith(("optimizer.", "stages."))


def test_an_old_family_resumes_where_a_later_key_has_the_value_of_its_absence() -> None:
    for key in DECIDING.keys() - ALWAYS_WRITTEN - _REQUIRED:
        found = marker(DECIDING[key], Absent)
        assert found is not None, key
        as_before = cast("Recipe", _with(BASE, key.split("."), found.value))
        assert _written_as(key) not in _of(as_before).root
        old = FingerprintInputs({name: value for name, value in _of(BASE).root.items() if name != _written_as(key)})
        old.refuse_change(_of(as_before), "a/step-9")


class _LaterShape(ModelShape):
    """A model with two keys that came later; one of them is not classified."""

    stated: Annotated[bool, Absent(value=False)] = True
    forgotten: int = 1


def _later(**values: Any) -> Recipe:  # noqa: ANN401  # the keys of _LaterShape
    return BASE.model_copy(update={"model": _LaterShape(**BASE.model.model_dump(), **values)})


def test_a_key_that_nobody_classified_is_in_the_fingerprint() -> None:
    assert _of(_later()).root["model.forgotten"] == 1
    with pytest.raises(CheckpointError, match=r"model\.forgotten = 1, the recipe now says 2"):
        _of(_later()).refuse_change(_of(_later(forgotten=2)), "a/step-9")


def test_a_later_key_leaves_old_fingerprints_alone_while_it_does_what_its_absence_did() -> None:
    old = _of(BASE)
    same = FingerprintInputs({k: v for k, v in _of(_later(stated=False)).root.items() if k != "model.forgotten"})
    assert same.fingerprint() == old.fingerprint()
    with pytest.raises(CheckpointError, match=r"model\.forgotten"):
        old.refuse_change(_of(_later(stated=False)), "a/step-9")
    assert _of(_later()).root["model.stated"] is True


def test_masking_without_bos_is_told_apart_from_what_earlier_versions_did() -> None:
    """They masked nothing there, so their families resume without masking, and are refused with it."""
    tokenizer = BASE.tokenizer.model_copy(update={"bos": False})
    recipes = [BASE.model_copy(update={"tokenizer": tokenizer, "document_masking": value}) for value in (False, True)]
    plain, masked = (_of(recipe) for recipe in recipes)
    written_before = FingerprintInputs(plain.root | {"document_masking": True})
    written_before.refuse_change(plain, "a/step-9")
    with pytest.raises(CheckpointError, match="document_masking = False, the recipe now says at EOS"):
        written_before.refuse_change(masked, "a/step-9")
