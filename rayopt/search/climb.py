"""The point of a space at which an acquisition function is largest: many points, then a climb from the best of them."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.optimize import minimize

from rayopt.search import design
from rayopt.search.parameters import Array
from rayopt.search.space import Space

SPREAD_COUNT = 512  # points all over the space
NEAR_COUNT = 256  # points around the best ones so far
CLIMBS = 6
STEPS = 60


class Beliefs(Protocol):
    """What is climbed: log worth of places, one with its slope, and the places that are best so far, best first."""

    @property
    def leaders(self) -> Array: ...

    def worth(self, units: Array) -> Array: ...

    def slope(self, unit: Array) -> tuple[float, Array]: ...


def best_point(space: Space, beliefs: Beliefs, taken: Array, generator: np.random.Generator) -> Array | None:
    """(dims,) the place of most worth that is not taken; None when there is no other."""
    seen = set(design.keys(taken))
    size = space.size
    if size is not None and size <= design.ENUMERATED:
        left = design.fresh(space.every(), seen)
        return left[int(np.argmax(beliefs.worth(left)))] if len(left) else None
    units = design.fresh(space.snap(_candidates(space, beliefs, generator)), seen)
    if not len(units):
        return None
    worth = beliefs.worth(units)
    ends = [units[int(np.argmax(worth))]]
    for start in _starts(units, worth):
        end = _climbed(space, beliefs, start, seen)
        if end is not None:
            ends.append(end)
    found = np.array(ends)
    best: Array = found[int(np.argmax(beliefs.worth(found)))]
    return best


def _candidates(space: Space, beliefs: Beliefs, generator: np.random.Generator) -> Array:
    """(m, dims) places over the whole space and around the leaders: some coordinates moved, by little or by much."""
    dims = len(space)
    spread = design.sobol(dims, SPREAD_COUNT, int(generator.integers(2**31)))
    centres = beliefs.leaders[generator.integers(len(beliefs.leaders), size=NEAR_COUNT)]
    widths = 10 ** generator.uniform(-3, -0.5, (NEAR_COUNT, 1))
    moved = generator.random((NEAR_COUNT, dims)) < np.maximum(0.5, 1 / dims)
    moved[np.arange(NEAR_COUNT), generator.integers(dims, size=NEAR_COUNT)] = True
    near = np.clip(centres + moved * widths * generator.normal(size=(NEAR_COUNT, dims)), 0, 1)
    jumps = moved & space.discrete & (generator.random((NEAR_COUNT, dims)) < 0.3)
    near[jumps] = generator.random(int(jumps.sum()))
    return np.concatenate([spread, near])


def _starts(units: Array, worth: Array) -> Array:
    """The best places that are not too close to each other."""
    chosen: list[Array] = []
    for index in np.argsort(-worth)[:200]:
        if all(np.abs(units[index] - one).max() > 0.05 for one in chosen):
            chosen.append(units[index])
        if len(chosen) == CLIMBS:
            break
    return np.array(chosen)


def _climbed(space: Space, beliefs: Beliefs, start: Array, seen: set[bytes]) -> Array | None:
    """Where a climb from `start` ends: continuous coordinates by their slope, the others by trying their neighbours."""
    unit = start
    for _ in range(3):
        unit = _slid(space, beliefs, unit)
        stepped = _stepped(space, beliefs, unit, seen) if space.discrete.any() else unit
        if np.array_equal(stepped, unit):
            break
        unit = stepped
    return None if design.keys(unit[None])[0] in seen else unit


def _slid(space: Space, beliefs: Beliefs, unit: Array) -> Array:
    free = np.flatnonzero(~space.discrete & space.exists(unit[None])[0])
    if not len(free):
        return unit

    def downhill(part: Array) -> tuple[float, Array]:
        place = unit.copy()
        place[free] = part
        value, slope = beliefs.slope(place)
        return -value, -slope[free]

    found = minimize(
        downhill,
        unit[free],
        jac=True,
        bounds=[(0, 1)] * len(free),
        method="L-BFGS-B",
        options={"maxiter": STEPS, "ftol": 1e-6},
    )
    moved = unit.copy()
    moved[free] = np.clip(found.x, 0, 1)
    return moved


def _stepped(space: Space, beliefs: Beliefs, unit: Array, seen: set[bytes]) -> Array:
    """The best neighbour in one discrete coordinate, again and again as long as there is a better one."""
    worth = float(beliefs.worth(unit[None])[0])
    if design.keys(unit[None])[0] in seen:
        worth = -np.inf
    for _ in range(8):
        others = design.fresh(space.snap(_neighbours(space, unit)), seen)
        if not len(others):
            break
        found = beliefs.worth(others)
        index = int(np.argmax(found))
        if found[index] <= worth + 1e-9:
            break
        unit, worth = others[index], float(found[index])
    return unit


def _neighbours(space: Space, unit: Array) -> Array:
    """(m, dims) places with one discrete coordinate changed: to any nominal value, or by steps of 1, 2, 4, ..."""
    rows = []
    for column in np.flatnonzero(space.discrete & space.exists(unit[None])[0]):
        parameter = space.parameters[space.names[column]]
        count = parameter.count or 1
        here = int(parameter.index(np.asarray(unit[column])))
        if parameter.nominal:
            wanted = set(range(count))
        else:
            wanted = {here + sign * 2**power for sign in (-1, 1) for power in range(max(1, count.bit_length() - 1))}
        for index in sorted(wanted - {here}):
            if 0 <= index < count:
                row = unit.copy()
                row[column] = parameter.place(index)
                rows.append(row)
    return np.array(rows).reshape(-1, len(space))
