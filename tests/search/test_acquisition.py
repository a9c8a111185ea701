"""Expected improvement and probabilities against Monte Carlo, mpmath and finite differences."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayopt.search import acquisition


@pytest.mark.parametrize(("mean", "deviation", "best"), [(0.0, 1.0, 0.5), (1.0, 0.3, 0.2), (-1.0, 2.0, 0.0)])
def test_improvement_is_that_of_monte_carlo(mean: float, deviation: float, best: float) -> None:
    draws = mean + deviation * np.random.default_rng(0).normal(size=400_000)
    wanted = np.maximum(draws - best, 0).mean()
    found = acquisition.log_improvement(np.array([mean]), np.array([deviation**2]), best)[0]
    assert math.exp(found) == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize("z", [5.0, 0.0, -0.999, -1.001, -5.0, -40.0, -1e3, -9e4, -2e5])
def test_it_is_exact_where_the_improvement_itself_is_zero(z: float) -> None:
    with mpmath.workdps(60):
        x = mpmath.mpf(z)
        exact = mpmath.npdf(x) + x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2 if z > -1e3 else None
        wanted = float(mpmath.log(exact)) if exact else -0.5 * z * z - acquisition.LOG_ROOT_2PI - 2 * math.log(-z)
    found = acquisition.log_improvement(np.array([z]), np.array([1.0]), 0.0)[0]
    assert found == pytest.approx(wanted, rel=1e-6)


@given(st.floats(-30, 5), st.floats(0.01, 4), st.floats(-2, 2))
def test_slopes_are_those_of_finite_differences(mean: float, variance: float, level: float) -> None:
    pairs = [
        (acquisition.log_improvement, acquisition.log_improvement_slopes),
        (acquisition.log_probability_below, acquisition.log_probability_slopes),
    ]
    for many, one in pairs:

        def value(mean: float, variance: float, many=many) -> float:  # type: ignore[no-untyped-def]
            return float(many(np.array([mean]), np.array([variance]), level)[0])

        found, by_mean, by_variance = one(mean, variance, level)
        assert found == pytest.approx(value(mean, variance), rel=1e-9, abs=1e-12)
        step = 1e-5 * variance
        wanted = (value(mean, variance + step) - value(mean, variance - step)) / (2 * step)
        assert by_variance == pytest.approx(wanted, rel=1e-2, abs=1e-2)
        step = 1e-4 * math.sqrt(variance)
        wanted = (value(mean + step, variance) - value(mean - step, variance)) / (2 * step)
        assert by_mean == pytest.approx(wanted, rel=1e-2, abs=1e-2)
