"""The Gaussian process against numpy, finite differences and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from rayopt.search import gaussian
from rayopt.search.gaussian import Posterior

NOMINAL = np.array([False, False, True])


def data(seed: int, n: int = 12) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    units = generator.random((n, 3))
    units[:, 2] = (generator.integers(3, size=n) + 0.5) / 3
    values = np.sin(5 * units[:, 0]) + units[:, 1] ** 2 + (units[:, 2] > 0.4)
    return units, (values - values.mean()) / values.std()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.lists(st.floats(-1.0, 1.0), min_size=5, max_size=5))
def test_the_gradient_is_that_of_finite_differences(seed: int, offsets: list[float]) -> None:
    units, values = data(seed)
    squares = gaussian.differences(units, NOMINAL)
    theta = np.array([-1.0, -0.5, 0.0, 0.0, -5.0]) + offsets
    _, gradient = gaussian.objective(theta, squares, values)
    for index in range(5):
        step = np.eye(5)[index] * 1e-5
        up, down = (gaussian.objective(theta + sign * step, squares, values)[0] for sign in (1, -1))
        assert gradient[index] == pytest.approx((up - down) / 2e-5, rel=1e-3, abs=1e-3)


def test_predictions_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    units, there = generator.random((15, 2)), generator.random((40, 2))
    values = np.sin(4 * units).sum(axis=1)
    values -= values.mean()
    hyper = gaussian.hyper(np.array([0.3, 0.8]), 1.7, 1e-4)
    ours = Posterior(units, values, np.zeros(2, dtype=bool), hyper)
    kernel = ConstantKernel(1.7, "fixed") * Matern([0.3, 0.8], "fixed", nu=2.5)
    theirs = GaussianProcessRegressor(kernel, alpha=1e-4, optimizer=None).fit(units, values - ours._mean)
    mean, deviation = theirs.predict(there, return_std=True)
    found, variance = ours.predict(there)
    assert np.allclose(found, mean + ours._mean, atol=1e-8)
    assert np.allclose(np.sqrt(variance), deviation, atol=1e-6)


def test_values_of_a_nominal_parameter_are_equally_far_apart() -> None:
    units = np.array([[0.5, 0.5, 0.5 / 3]])
    belief = Posterior(units, np.array([1.0]), NOMINAL, gaussian.hyper(np.ones(3), 1.0, 1e-6))
    _, variance = belief.predict(np.array([[0.5, 0.5, place] for place in (0.5 / 3, 0.5, 2.5 / 3)]))
    assert variance[0] < 1e-4
    assert variance[1] == pytest.approx(variance[2])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6))
def test_the_slope_of_a_prediction_is_that_of_finite_differences(seed: int) -> None:
    units, values = data(seed)
    belief = Posterior(units, values, NOMINAL, gaussian.hyper(np.array([0.4, 0.7, 1.0]), 1.0, 1e-3))
    unit = np.array([0.31, 0.62, 0.5])
    mean, variance, by_mean, by_variance = belief.slope(unit)
    assert belief.predict(unit[None])[0][0] == pytest.approx(mean)
    assert belief.predict(unit[None])[1][0] == pytest.approx(variance)
    for column in (0, 1):
        step = np.eye(3)[column] * 1e-6
        (up, wide), (down, narrow) = (belief.predict((unit + sign * step)[None]) for sign in (1, -1))
        assert by_mean[column] == pytest.approx((up[0] - down[0]) / 2e-6, rel=1e-3, abs=1e-5)
        assert by_variance[column] == pytest.approx((wide[0] - narrow[0]) / 2e-6, rel=1e-3, abs=1e-5)


def test_the_fit_finds_which_parameter_matters() -> None:
    generator = np.random.default_rng(1)
    units = generator.random((40, 2))
    values = np.sin(8 * units[:, 0])
    hyper, evidence = gaussian.fit(units, (values - values.mean()) / values.std(), np.zeros(2, dtype=bool))
    assert hyper.lengths[1] > 3 * hyper.lengths[0]
    assert np.isfinite(evidence)
