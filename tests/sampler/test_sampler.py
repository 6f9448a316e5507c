import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllama.errors import PlanError
from tinyllama.plan import compile_plan
from tinyllama.recipe import load_recipe
from tinyllama.sampler import Permutation, Sampler
from tinyllama.sampler.permutation import permute_each

RECIPE = load_recipe("nano")
PLAN = compile_plan(RECIPE, "math_code")
ROWS = {"prose": 300, "code": 77, "arithmetic": 13}


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.text(max_size=20))
def test_a_permutation_is_a_bijection_for_every_size_and_key(size: int, key: str) -> None:
    assert sorted(Permutation(size, key)(np.arange(size)).tolist()) == list(range(size))


def test_a_permutation_of_trillions_of_rows_is_computed_not_stored() -> None:
    size = 3 * 10**12
    images = Permutation(size, "big")(np.arange(size - 1000, size))
    assert len(set(images.tolist())) == 1000
    assert images.min() >= 0
    assert images.max() < size


@pytest.mark.parametrize(
    ("size", "digest"),
    [
        (1, "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc"),
        (1000, "522ee4b892958d847046b70d38dafcc0b9caeb5d12417f2e17640dad6c754ff2"),
        (321_777_344, "b76d43685c40cf1be075d867a15b17d07b459efe10822fc0f304ed51d02f180b"),
        (3 * 10**12, "a4f84ae6c32577de7cc2c6f89d71c0b48253cde0c4cc5188e2829bf77b16d29a"),
    ],
)
def test_a_permutation_never_changes(size: int, digest: str) -> None:
    # Rows of every run that was ever trained hang on it.
    images = Permutation(size, "7/prose/3")(np.arange(max(0, size - 1000), size))
    assert hashlib.sha256(images.astype("<i8").tobytes()).hexdigest() == digest


def test_whole_permutations_of_many_keys_are_those_of_each() -> None:
    for size in (1, 5, 880, 3520):
        keys = ["a", "b", "c"]
        each = [Permutation(size, key)(np.arange(size)) for key in keys]
        assert (permute_each(size, keys) == np.stack(each)).all()


@pytest.mark.parametrize("size", [1, 2, 3, 100, 65_537, 3_000_000_000_000])
def test_the_inverse_of_a_permutation_finds_the_position_of_each_image(size: int) -> None:
    positions = np.unique(np.linspace(0, size - 1, 1000, dtype=np.int64))
    permutation = Permutation(size, "1/prose/0")
    assert (permutation.inverse(permutation(positions)) == positions).all()


def test_the_visits_of_rows_are_those_of_a_walk_over_several_epochs() -> None:
    plan, rows = compile_plan(load_recipe("nano"), "math_code"), {"prose": 37, "code": 20, "arithmetic": 900}
    sampler = Sampler(plan, 3, rows)
    walk = sampler.span(0, plan.steps)
    step_of = np.repeat(np.arange(plan.steps), plan.batch)
    for index, name in enumerate(plan.corpora):
        which, steps = sampler.visits(name, np.arange(rows[name]))
        expected = Counter(
            zip(walk.row[walk.corpus == index].tolist(), step_of[walk.corpus == index].tolist(), strict=True)
        )
        assert Counter(zip(which.tolist(), steps.tolist(), strict=True)) == expected
    assert not len(sampler.visits("chinese", np.arange(2))[1])


def test_keys_and_neighbors_give_unrelated_orders() -> None:
    one, other = (Permutation(10_000, key)(np.arange(10_000)) for key in ("a", "b"))
    assert (one == other).mean() < 0.01
    assert abs(np.corrcoef(np.arange(10_000), one)[0, 1]) < 0.05


def test_each_epoch_visits_every_row_of_a_corpus_once_in_an_order_of_its_own() -> None:
    sampler = Sampler(PLAN, 1, ROWS)
    visits: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for step in range(PLAN.steps):
        chosen = sampler.step(step)
        for corpus in visits:
            visits[corpus] += sorted(chosen.row[chosen.corpus == corpus].tolist())
    for corpus, size in enumerate(ROWS.values()):
        whole = len(visits[corpus]) // size
        counts = Counter(visits[corpus])
        assert whole >= 1
        assert set(counts) == set(range(size))
        assert set(counts.values()) <= {whole, whole + 1}


def test_a_step_takes_from_each_corpus_what_the_plan_says() -> None:
    sampler = Sampler(PLAN, 1, ROWS)
    for step in (0, PLAN.fork_step, PLAN.steps - 1):
        chosen = sampler.step(step)
        assert np.bincount(chosen.corpus, minlength=3).tolist() == PLAN.counts[step].tolist()


def test_rows_of_a_step_do_not_depend_on_what_was_asked_before() -> None:
    fresh, used = Sampler(PLAN, 1, ROWS), Sampler(PLAN, 1, ROWS)
    for step in (5, 90, 3):
        used.step(step)
    assert (fresh.step(60).row == used.step(60).row).all()


def test_another_seed_gives_other_rows() -> None:
    assert (Sampler(PLAN, 1, ROWS).step(7).row != Sampler(PLAN, 2, ROWS).step(7).row).any()


def test_corpora_are_mixed_inside_a_batch() -> None:
    step = PLAN.steps - 1
    corpus = Sampler(PLAN, 1, ROWS).step(step).corpus
    half = len(corpus) // 2
    assert 0 < (corpus[:half] > 0).sum() < (corpus > 0).sum()


def test_a_corpus_without_rows_is_refused_by_name() -> None:
    with pytest.raises(PlanError, match="arithmetic"):
        Sampler(PLAN, 1, {"prose": 3, "code": 3})
