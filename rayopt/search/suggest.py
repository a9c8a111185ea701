"""The next point of a Bayesian search: beliefs about value, limits and failures, and the point that they make most of.

A pure function of its arguments. The first points fill the space; points that are being evaluated count as if they had
come out as believed, so that the next one lies elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rayopt.search import acquisition, climb, design, gaussian, warp
from rayopt.search.history import Observation
from rayopt.search.parameters import Array
from rayopt.search.space import Params, Space


@dataclass(frozen=True)
class Problem:
    """What the best point is.

    `limits` are bounds (low, high) on metrics of an observation. `also` names metrics that are further objectives: 1 if
    more of them is better, -1 if less is.
    """

    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    also: Mapping[str, int] = field(default_factory=dict)
    initial_count: int = 5


def suggest(
    space: Space, history: Sequence[Observation], pending: Sequence[Params], seed: int, problem: Problem = Problem()
) -> Params | None:
    """The next point to evaluate; None when every point has been."""
    taken = [*(one.params for one in history), *pending]
    good = [one for one in history if not one.failed]
    if len(taken) < problem.initial_count or len(good) < 2:
        return design.next_design_point(space, taken, seed)
    units = space.units(taken)
    generator = np.random.default_rng([seed, len(history), len(pending)])
    beliefs = believe(space, history, pending, generator, problem)
    found = climb.best_point(space, beliefs, units, generator)
    return design.next_design_point(space, taken, seed) if found is None else space.params(found)


@dataclass(frozen=True)
class Beliefs:
    """Log worth of a place: expected improvement over `best` (None: none is known to be allowed yet) times the
    probability of every condition, each a belief about a quantity and what it has to stay below."""

    value: gaussian.Posterior
    best: float | None
    conditions: tuple[tuple[gaussian.Posterior, float], ...]
    leaders: Array

    def worth(self, units: Array) -> Array:
        total = np.zeros(len(units))
        if self.best is not None:
            total += acquisition.log_improvement(*self.value.predict(units), self.best)
        for belief, limit in self.conditions:
            total += acquisition.log_probability_below(*belief.predict(units), limit)
        return total

    def slope(self, unit: Array) -> tuple[float, Array]:
        total, slope = 0.0, np.zeros(len(unit))
        if self.best is not None:
            mean, variance, by_mean, by_variance = self.value.slope(unit)
            value, to_mean, to_variance = acquisition.log_improvement_slopes(mean, variance, self.best)
            total, slope = total + value, slope + to_mean * by_mean + to_variance * by_variance
        for belief, limit in self.conditions:
            mean, variance, by_mean, by_variance = belief.slope(unit)
            value, to_mean, to_variance = acquisition.log_probability_slopes(mean, variance, limit)
            total, slope = total + value, slope + to_mean * by_mean + to_variance * by_variance
        return total, slope


def believe(
    space: Space,
    history: Sequence[Observation],
    pending: Sequence[Params],
    generator: np.random.Generator,
    problem: Problem,
) -> Beliefs:
    good = [one for one in history if not one.failed]
    units = space.units(one.params for one in good)
    values = np.array([one.value for one in good], dtype=float)
    curved, hyper = warp.fitted(units, values, space.nominal)
    value = gaussian.Posterior(units, curved, space.nominal, hyper)
    best = float(value.predict(units)[0].max())
    leaders = units[np.argsort(-curved, kind="stable")[:4]]
    if pending:
        ahead = space.units(pending)
        value = value.joined(ahead, value.predict(ahead)[0])
    return Beliefs(value, best, (), leaders)
