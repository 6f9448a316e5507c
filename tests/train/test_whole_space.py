"""Families with any schedule, context, branch, average and optimizer resume bit for bit on one and on two ranks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.train.processes import EXACT, start, train_on, wait_for_steps
from tests.train.runs import assert_same_run, deterministic_metrics
from tests.train.stopping import stop_at
from tinyllama.family import Family
from tinyllama.recipe import load_recipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
MODELS = ("base", "math_code", "late")
DECAYED = [
    "{schedule: cosine, peak: 4e-3, minimum: 4e-4, warmup: 2K, horizon: 20K}",
    *(
        f"{{schedule: wsd, peak: 4e-3, minimum: 4e-4, warmup: 2K, horizon: 20K, decay_from: 50%, decay: {shape}}}"
        for shape in ("linear", "cosine", "1-sqrt", "exponential")
    ),
    *(
        "{schedule: piecewise, peak: 4e-3, warmup: 2K, "
        f"points: [{{tokens: 8K, factor: 0.5}}, {{tokens: 16K, factor: 0.1}}], between: {between}}}"
        for between in ("linear", "step")
    ),
]
CONSTANT = "{schedule: constant, peak: 4e-3, warmup: 2K}"


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, ...]:
    """What a small family has beside nano's keys: overrides."""
    decay = draw(st.sampled_from(["", "linear", "cosine", "1-sqrt", "exponential"]))
    rate = CONSTANT if decay else draw(st.sampled_from([*DECAYED, CONSTANT]))
    point = draw(st.sampled_from(["base@3.5K", "base", "math_code@14K"]))
    context = draw(st.sampled_from([64, 128]))
    own = f"{{name: own, until: 22K, batch: 2048, context: {context}, learning_rate_factor: 0.5}}"
    end = f", decay: {{shape: {decay}, minimum: 4e-5}}" if decay else ""
    long = ("stages.2.context=256", "stages.2.batch=4096", "stages.2.rope_theta=40000") if draw(st.booleans()) else ()
    return (
        f"optimizer.learning_rate={rate}",
        f"optimizer.kind={draw(st.sampled_from(['adamw', 'muon']))}",
        f"branches={{late: {{from: {point}, shares: {{prose: 50%, code: 50%}}, stages: [{own}]{end}}}}}",
        *draw(st.sampled_from([(), ("average.half_life=2K",), ("average.last=2",)])),
        *long,
    )


@settings(max_examples=6, deadline=None, derandomize=True, phases=[Phase.generate])
@given(keys=changes(), stops=st.tuples(st.integers(2, 5), st.integers(7, 11)))
def test_a_stopped_family_equals_one_that_never_stopped_on_one_and_on_two_ranks(
    prepared: Path, tmp_path_factory: pytest.TempPathFactory, keys: tuple[str, ...], stops: tuple[int, int]
) -> None:
    root = tmp_path_factory.mktemp("whole")
    names = ("one", "one-stopped", "two", "two-stopped")
    one, one_stopped, two, two_stopped = (Path(shutil.copytree(prepared, root / name)) for name in names)
    recipe = load_recipe("nano", [*EXACT, *keys])
    Family(recipe, one).train(*MODELS)
    for model, step in zip(MODELS, stops, strict=False):
        stop_at(Family(recipe, one_stopped), model, step)
        Family(recipe, one_stopped).train(model)
    Family(recipe, one_stopped).train(*MODELS)
    for model in MODELS:
        assert train_on(two, 2, 2, keys, model) == [0, 0]
        ranks = start(two_stopped, 2, 2, keys, model)
        wait_for_steps(two_stopped, 2, model)
        for rank in ranks:
            rank.terminate()
        for rank in ranks:
            rank.join(120)
        assert train_on(two_stopped, 2, 2, keys, model) == [0, 0]
    for model in MODELS:
        assert_same_run(one / model, one_stopped / model)
        assert_same_run(two / model, two_stopped / model)
        rows = [
            [(line["step"], line["tokens"], line.get("lr"), line.get("digest")) for line in deterministic_metrics(run)]
            for run in (one / model, two / model)
        ]
        assert rows[0] == rows[1]
