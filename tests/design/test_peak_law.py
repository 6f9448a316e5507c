import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllama.design.peak_law import TunedRung, fit_peaks
from tinyllama.errors import PlanError

FLOPS = st.lists(st.floats(1e10, 1e22), min_size=2, max_size=8, unique_by=lambda flops: round(math.log(flops), 1))


def planted(flops: list[float], factor: float, exponent: float) -> list[TunedRung]:
    return [TunedRung(each, factor * each**exponent) for each in flops]


@given(FLOPS, st.floats(1e-4, 10), st.floats(-1, 0.5), st.floats(1e10, 1e24))
def test_a_planted_law_is_recovered_at_every_compute(
    flops: list[float], factor: float, exponent: float, of_model: float
) -> None:
    found = fit_peaks(planted(flops, factor, exponent), of_model)
    assert found.exponent == pytest.approx(exponent, abs=1e-6)
    assert found.peak == pytest.approx(factor * of_model**exponent, rel=1e-4)
    assert (found.exponent_interval is None) == (found.peak_interval is None) == (len(flops) == 2)
    if found.exponent_interval is not None and found.peak_interval is not None:
        assert found.exponent_interval == pytest.approx((exponent, exponent), abs=1e-5)
        assert found.peak_interval == pytest.approx((found.peak, found.peak), rel=1e-3)


def test_two_rungs_lie_on_the_law_and_do_not_tell_how_sure_it_is() -> None:
    found = fit_peaks([TunedRung(1e15, 4e-3), TunedRung(1e17, 2e-3)], 1e19)
    assert found.exponent == pytest.approx(math.log(0.5) / math.log(100))
    assert found.peak == pytest.approx(1e-3)
    assert found.exponent_interval is found.peak_interval is None


def test_exponent_and_its_error_are_those_of_numpy() -> None:
    rungs = [TunedRung(1e15, 4.1e-3), TunedRung(3e15, 3.1e-3), TunedRung(1e16, 3.3e-3), TunedRung(4e16, 2.2e-3)]
    found = fit_peaks(rungs, 1e18)
    line, covariance = np.polyfit(*np.log(rungs).T, 1, cov=True)
    assert found.exponent == pytest.approx(line[0])
    assert math.log(found.peak) == pytest.approx(np.polyval(line, math.log(1e18)))
    assert found.exponent_interval is not None
    assert found.peak_interval is not None
    student = 2.920  # of two degrees of freedom
    assert found.exponent_interval.high - found.exponent == pytest.approx(student * math.sqrt(covariance[0, 0]))
    at = np.array([math.log(1e18), 1.0])
    assert math.log(found.peak_interval.high / found.peak) == pytest.approx(student * math.sqrt(at @ covariance @ at))
    assert found.peak**2 == pytest.approx(found.peak_interval.low * found.peak_interval.high)


@pytest.mark.parametrize("count", [3, 4, 6, 12, 15])
def test_intervals_hold_the_truth_nine_times_of_ten(count: int) -> None:
    flops = np.geomspace(1e15, 1e17, count)
    noise = np.random.default_rng(count).normal(0, 0.1, (4000, count))
    peaks = 0.3 * flops**-0.125 * np.exp(noise)
    drawn = [fit_peaks([*map(TunedRung, flops.tolist(), row)], 1e19) for row in peaks.tolist()]
    slopes = [found.exponent_interval for found in drawn if found.exponent_interval is not None]
    wholes = [found.peak_interval for found in drawn if found.peak_interval is not None]
    true = 0.3 * 1e19**-0.125
    assert len(slopes) == len(wholes) == 4000
    assert sum(low < -0.125 < high for low, high in slopes) / 4000 == pytest.approx(0.9, abs=0.02)
    assert sum(low < true < high for low, high in wholes) / 4000 == pytest.approx(0.9, abs=0.02)


def test_rungs_of_equal_compute_are_refused() -> None:
    with pytest.raises(PlanError, match=r"2 rungs of 1e\+15 FLOPs each do not tell how the peak changes"):
        fit_peaks([TunedRung(1e15, 4e-3), TunedRung(1e15, 2e-3)], 1e19)
