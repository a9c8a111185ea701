"""Points in flight: the average over draws against Gaussian processes made one by one, slopes against differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri

from rayopt.search import acquisition, gaussian
from rayopt.search.design import sobol
from rayopt.search.fantasies import DRAWS, Fantasies, fantasies
from rayopt.search.gaussian import Posterior

GENERATOR = np.random.default_rng(3)
UNITS = GENERATOR.random((9, 3))
VALUES = np.sin(5 * UNITS).sum(axis=1)
NOMINAL = np.zeros(3, dtype=bool)
BELIEF = Posterior(UNITS, VALUES, NOMINAL, gaussian.hyper(np.array([0.4, 0.8, 0.6]), 1.3, 1e-4))
CANDIDATES = GENERATOR.random((200, 3))
WORTH = acquisition.log_improvement(*BELIEF.predict(CANDIDATES), float(VALUES.max()))
AHEAD = CANDIDATES[[int(np.argmax(WORTH)), 0]]
PLACES = GENERATOR.random((6, 3))


def made(counts: tuple[bool, bool] = (True, True)) -> Fantasies:
    return fantasies(BELIEF, AHEAD, float(VALUES.max()), np.array(counts), 5)


def test_it_is_the_average_over_beliefs_that_have_seen_the_draws() -> None:
    drawn = BELIEF.draws(AHEAD, ndtri(sobol(2, DRAWS, 5)))
    improvements = []
    for values in drawn:
        belief = Posterior(np.vstack([UNITS, AHEAD]), np.append(VALUES, values), NOMINAL, BELIEF.hyper)
        best = max(VALUES.max(), values.max())
        improvements.append(np.exp(acquisition.log_improvement(*belief.predict(PLACES), best)))
    assert made().worth(PLACES) == pytest.approx(np.log(np.mean(improvements, axis=0)), abs=1e-9)


def test_the_slope_is_that_of_finite_differences() -> None:
    fantasy, step = made(), 1e-6
    for place in PLACES:
        value, slope = fantasy.slope(place)
        moved = [fantasy.worth(np.array([place + step * side, place - step * side])) for side in np.eye(3)]
        assert value == pytest.approx(float(fantasy.worth(place[None])[0]), abs=1e-9)
        assert slope == pytest.approx([(up - down) / (2 * step) for up, down in moved], rel=1e-4, abs=1e-4)


def test_a_place_in_flight_is_worth_nothing_unless_it_may_not_count() -> None:
    here = AHEAD[:1]
    assert made().worth(here)[0] < WORTH.max() - 3
    assert made((False, False)).worth(here)[0] > WORTH.max() - 0.5


def test_draws_have_the_mean_and_covariance_of_the_belief() -> None:
    drawn = BELIEF.draws(AHEAD, ndtri(sobol(2, 4096, 1).clip(1e-9, 1 - 1e-9)))
    mean, variance = BELIEF.predict(AHEAD)
    assert drawn.mean(axis=0) == pytest.approx(mean, abs=0.01)
    assert drawn.var(axis=0) == pytest.approx(variance, rel=0.02)
