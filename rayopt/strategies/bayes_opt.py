"""Bayesian search by the bayes_opt package with its own Gaussian process.

It knows no logarithms, conditions, failures or points in flight: it is given the unit cube of the space, failures as
the worst value so far, and points in flight as if they had come out as believed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from rayopt.search.design import fresh, keys, next_design_point
from rayopt.search.history import Observation
from rayopt.search.space import Params, Space
from rayopt.search.threads import one_thread
from rayopt.spec import Settings


class Options(Settings):
    initial: int = Field(5, ge=1, description="points that fill the space before the search learns from them")
    xi: float = Field(0.01, ge=0, description="improvement that is asked for, of values between 0 and 1")


def propose(
    space: Space, history: Sequence[Observation], pending: Sequence[Params], seed: int, options: Options
) -> Params | None:
    taken = [*(one.params for one in history), *pending]
    good = [one.value for one in history if one.value is not None and not one.failed]
    if len(taken) < options.initial or len(good) < 2:
        return next_design_point(space, taken, seed)
    units = space.units(taken)
    found = space.snap(_suggested(units, _values(history, good), [seed, len(history), len(pending)], options.xi)[None])
    left = fresh(found, keys(units))
    return space.params(left[0]) if len(left) else next_design_point(space, taken, seed)


def _values(history: Sequence[Observation], good: Sequence[float]) -> list[float]:
    """Values between 0 and 1, a failure as the worst."""
    low, high = min(good), max(good)
    width = high - low or 1.0
    return [0.0 if one.failed or one.value is None else (one.value - low) / width for one in history]


def _suggested(units: np.ndarray, values: Sequence[float], seed: Sequence[int], xi: float) -> np.ndarray:
    """The point that bayes_opt proposes after `values` at the first units (n, dims); the others are in flight."""
    from bayes_opt import BayesianOptimization
    from bayes_opt.acquisition import ExpectedImprovement

    names = [f"{column:04}" for column in range(units.shape[1])]  # bayes_opt keeps the order of names
    state = int(np.random.default_rng(list(seed)).integers(2**31))
    optimizer = BayesianOptimization(
        None,
        dict.fromkeys(names, (0.0, 1.0)),
        acquisition_function=ExpectedImprovement(xi=xi),
        random_state=state,
        verbose=0,
        allow_duplicate_points=True,
    )
    with warnings.catch_warnings(), one_thread():
        warnings.simplefilter("ignore")
        for unit, value in zip(units, values, strict=False):
            optimizer.register(dict(zip(names, unit, strict=True)), value)
        for unit in units[len(values) :]:
            point = dict(zip(names, unit, strict=True))
            believed = np.asarray(optimizer.predict(point))
            optimizer.register(point, float(believed))
        found = optimizer.suggest()
    return np.clip([float(found[name]) for name in names], 0.0, 1.0)
