"""The worth of repeated text, at the points that its source publishes."""

import math

import pytest

from tinyllama.plan import MANY_EPOCHS, effective_epochs


def test_four_epochs_are_nearly_as_good_as_new_text_and_forty_are_not() -> None:
    assert effective_epochs(0.5) == 0.5
    assert effective_epochs(1) == 1
    assert effective_epochs(MANY_EPOCHS) == pytest.approx(4, rel=0.08)
    assert effective_epochs(40) == pytest.approx(15.17, rel=0.01)
    assert effective_epochs(1e6) == pytest.approx(16.39)


def test_repetitions_have_lost_all_but_a_part_of_e_after_r_star() -> None:
    """By definition of R*: the worth of the last repetition is then 1/e of that of new text."""
    step = 1e-6
    worth = (effective_epochs(16.39 + step) - effective_epochs(16.39)) / step
    assert worth == pytest.approx(1 / math.e, rel=1e-3)
