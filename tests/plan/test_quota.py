from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllama.plan.quota import allot, quota_curve


@st.composite
def shares(draw: st.DrawFn, corpora: int) -> list[Fraction]:
    parts = draw(st.lists(st.integers(0, 1000), min_size=corpora, max_size=corpora).filter(any))
    return [Fraction(part, sum(parts)) for part in parts]


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[list[Fraction], list[Fraction], Fraction, list[int]]:
    corpora = draw(st.integers(2, 8))
    ramp = draw(st.one_of(st.just(Fraction(0)), st.fractions(min_value=1, max_value=200, max_denominator=50)))
    batches = draw(st.lists(st.integers(1, 40), min_size=1, max_size=60))
    # Before the ramp one corpus has everything, as in a base of one corpus; afterwards any mixture.
    before = [Fraction(int(index == 0)) for index in range(corpora)]
    return before, draw(shares(corpora)), ramp, batches


@settings(max_examples=300, deadline=None)
@given(mixtures())
def test_counts_never_leave_the_quota_by_a_full_sequence_never_are_negative_and_sum_to_the_batch(
    mixture: tuple[list[Fraction], list[Fraction], Fraction, list[int]],
) -> None:
    before, after, ramp, batches = mixture
    curves = [quota_curve(b, a, ramp=ramp) for b, a in zip(before, after, strict=True)]
    held, seen = (0,) * len(before), 0
    for batch, taken in zip(batches, allot(curves, 0, batches, held), strict=True):
        seen += batch
        assert sum(taken) == seen
        for had, has, b, a in zip(held, taken, before, after, strict=True):
            assert has >= had
            moved = Fraction(seen * seen, 2) / ramp if seen < ramp else seen - ramp / 2
            assert abs(has - (b * seen + (a - b) * moved)) < 1
        held = taken


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 8).flatmap(shares), st.lists(st.integers(1, 5), min_size=1, max_size=200))
def test_constant_shares_from_the_start_are_kept_too(mixture: list[Fraction], batches: list[int]) -> None:
    curves = [quota_curve(share, share, ramp=Fraction(0)) for share in mixture]
    seen = 0
    for batch, taken in zip(batches, allot(curves, 0, batches, (0,) * len(mixture)), strict=True):
        seen += batch
        assert sum(taken) == seen
        assert all(abs(has - share * seen) < 1 for has, share in zip(taken, mixture, strict=True))


@settings(max_examples=200, deadline=None)
@given(st.fractions(0, 1), st.fractions(0, 1), st.fractions(min_value=1, max_value=300), st.integers(0, 400))
def test_a_curve_tells_when_it_reaches_a_whole_number(
    before: Fraction, after: Fraction, ramp: Fraction, seen: int
) -> None:
    curve = quota_curve(before, after, ramp=ramp)
    whole = curve.at(seen) // curve.unit + 1
    reached = curve.reaches(whole, seen)
    if reached == float("inf"):
        assert after == 0
    else:
        assert curve.at(int(reached)) >= whole * curve.unit
        assert int(reached) == seen or curve.at(int(reached) - 1) < whole * curve.unit


def test_counts_do_not_depend_on_what_comes_later() -> None:
    curves = [quota_curve(Fraction(s, 7), Fraction(s, 7), ramp=Fraction(0)) for s in (1, 2, 4)]
    batches = [5, 3, 8, 1, 9, 9, 2]
    assert (allot(curves, 0, batches, (0, 0, 0))[:4] == allot(curves, 0, batches[:4], (0, 0, 0))).all()


@settings(max_examples=200, deadline=None)
@given(
    st.integers(2, 6).flatmap(shares),
    st.fractions(1, 900, max_denominator=7),
    st.lists(st.integers(50, 900), max_size=40),
)
def test_steps_allotted_together_are_those_allotted_one_by_one(
    after: list[Fraction], ramp: Fraction, batches: list[int]
) -> None:
    curves = [quota_curve(Fraction(int(not i)), share, ramp=ramp) for i, share in enumerate(after)]
    held, seen = [0] * len(curves), 0
    for batch, taken in zip(batches, allot(curves, 0, batches, held), strict=True):
        held, seen = allot(curves, seen, [batch], held)[0].tolist(), seen + batch
        assert taken.tolist() == held
