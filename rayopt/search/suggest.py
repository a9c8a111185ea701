"""The next point of a Bayesian search: a pure function of space, history, pending points, seed and problem.

The first points fill the space. Later ones have most expected improvement times the chance of succeeding and of keeping
every limit, whatever comes of the points that are being evaluated (`fantasies`). Of a long history a part is learnt
from (`learnt_from`), so that a proposal does not take longer and longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rayopt.search import acquisition, climb, design, gaussian, pareto, warp
from rayopt.search.fantasies import Fantasies, fantasies
from rayopt.search.gaussian import Hyper, Posterior
from rayopt.search.history import Observation
from rayopt.search.learnt import learnt_from
from rayopt.search.parameters import Array
from rayopt.search.space import Params, Space
from rayopt.search.threads import one_thread

LEADERS = 4
LIKELY = np.log(0.5)  # that a point in flight keeps all conditions, so that its value counts
SURELY_GOOD = -0.5  # between -1, what succeeded, and 1, what failed
FAILURE_LENGTHS = (0.1, 0.5)  # how far a failure is believed to reach, at least and at most


@dataclass(frozen=True)
class Problem:
    """What the best point is.

    `limits` are bounds (low, high) on metrics of an observation, either may be infinite. `also` names metrics that are
    further objectives: 1 if more of it is better, -1 if less is; every proposal then aims at a random compromise.
    """

    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    also: Mapping[str, int] = field(default_factory=dict)
    initial_count: int = 5


PLAIN = Problem()


def suggest(
    space: Space, history: Sequence[Observation], pending: Sequence[Params], seed: int, problem: Problem = PLAIN
) -> Params | None:
    """The next point to evaluate; None when every point has been."""
    taken = [*(one.params for one in history), *pending]
    seen = learnt_from(history)
    if len(taken) >= problem.initial_count and len(_complete(seen, problem)) >= 2:
        generator = np.random.default_rng([seed, len(history), len(pending)])
        try:
            with one_thread():
                beliefs = believe(space, seen, pending, problem, generator)
                found = climb.best_point(space, beliefs, space.units(taken), generator)
        except np.linalg.LinAlgError:
            found = None
        if found is not None:
            return space.params(found)
    return design.next_design_point(space, taken, seed)


@dataclass(frozen=True)
class Improvement:
    """The log of the expected improvement over `best`."""

    value: Posterior
    best: float

    def worth(self, units: Array) -> Array:
        return acquisition.log_improvement(*self.value.predict(units), self.best)

    def slope(self, unit: Array) -> tuple[float, Array]:
        mean, variance, by_mean, by_variance = self.value.slope(unit)
        found, to_mean, to_variance = acquisition.log_improvement_slopes(mean, variance, self.best)
        return float(found), to_mean * by_mean + to_variance * by_variance


@dataclass(frozen=True)
class Beliefs:
    """The log worth of places: improvement (None: nothing is known to be allowed) and all conditions.

    A condition is a belief about a quantity, and what it has to stay below. `leaders` are the best places so far.
    """

    improvement: Improvement | Fantasies | None
    conditions: tuple[tuple[Posterior, float], ...]
    leaders: Array

    def worth(self, units: Array) -> Array:
        """(m,) log worth of units (m, dims)."""
        total = np.zeros(len(units))
        if self.improvement is not None:
            total += self.improvement.worth(units)
        for belief, limit in self.conditions:
            total += acquisition.log_probability_below(*belief.predict(units), limit)
        return total

    def slope(self, unit: Array) -> tuple[float, Array]:
        """The log worth of one place (dims,), and how it changes with its coordinates."""
        total, slope = 0.0, np.zeros(len(unit))
        if self.improvement is not None:
            total, slope = self.improvement.slope(unit)
        for belief, limit in self.conditions:
            mean, variance, by_mean, by_variance = belief.slope(unit)
            value, to_mean, to_variance = acquisition.log_probability_slopes(mean, variance, limit)
            total, slope = total + value, slope + to_mean * by_mean + to_variance * by_variance
        return total, slope


def believe(
    space: Space,
    history: Sequence[Observation],
    pending: Sequence[Params],
    problem: Problem,
    generator: np.random.Generator,
) -> Beliefs:
    """What the history says, at least two of whose observations are complete."""
    good = _complete(history, problem)
    units = space.units(one.params for one in good)
    curved, hyper = warp.fitted(units, _values(good, problem, generator), space.nominal)
    value = Posterior(units, curved, space.nominal, hyper)
    allowed = np.array([_keeps(one, problem) for one in good])
    best = float(value.predict(units[allowed])[0].max()) if allowed.any() else None
    conditions = _limit_conditions(space, good, units, problem)
    if any(one.failed for one in history):
        conditions.append(_failure_condition(space, history, hyper))
    improvement: Improvement | Fantasies | None = None if best is None else Improvement(value, best)
    if pending and best is not None:
        ahead = space.units(pending)
        counts = sum(
            (acquisition.log_probability_below(*one.predict(ahead), limit) for one, limit in conditions),
            np.zeros(len(ahead)),
        )
        improvement = fantasies(value, ahead, best, counts > LIKELY, int(generator.integers(2**31)))
    ranks = np.lexsort((-curved, ~allowed))
    return Beliefs(improvement, tuple(conditions), units[ranks[:LEADERS]])


def _complete(history: Sequence[Observation], problem: Problem) -> list[Observation]:
    """The observations that have all that the problem is about."""
    needed = {*problem.limits, *problem.also}
    return [one for one in history if not one.failed and needed <= set(one.metrics)]


def _values(good: Sequence[Observation], problem: Problem, generator: np.random.Generator) -> Array:
    values = np.array([one.value for one in good], dtype=float)
    if not problem.also:
        return values
    others = [[sign * one.metrics[name] for name, sign in problem.also.items()] for one in good]
    return pareto.compromise(np.column_stack([values, np.array(others)]), generator)


def _keeps(one: Observation, problem: Problem) -> bool:
    return all(low <= one.metrics[name] <= high for name, (low, high) in problem.limits.items())


def _limit_conditions(
    space: Space, good: Sequence[Observation], units: Array, problem: Problem
) -> list[tuple[Posterior, float]]:
    conditions = []
    for name, (low, high) in problem.limits.items():
        values = np.array([one.metrics[name] for one in good])
        middle, width = float(values.mean()), float(values.std()) or 1.0
        hyper, _ = gaussian.fit(units, (values - middle) / width, space.nominal)
        for sign, bound in ((1, high), (-1, low)):
            if np.isfinite(bound):
                belief = Posterior(units, sign * (values - middle) / width, space.nominal, hyper)
                conditions.append((belief, sign * (bound - middle) / width))
    return conditions


def _failure_condition(space: Space, history: Sequence[Observation], hyper: Hyper) -> tuple[Posterior, float]:
    """A regression on 1 for what failed and -1 for what did not: points are wanted where it is well below 0."""
    labels = np.array([1.0 if one.failed else -1.0 for one in history])
    lengths = np.clip(hyper.lengths, *FAILURE_LENGTHS)
    return Posterior(
        space.units(one.params for one in history), labels, space.nominal, gaussian.hyper(lengths, 1.0, 0.01)
    ), SURELY_GOOD
