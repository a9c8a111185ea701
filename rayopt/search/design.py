"""Space-filling points: a scrambled Sobol sequence (Owen, 1998) brought to the points of a space."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import numpy as np

from rayopt.search.parameters import Array
from rayopt.search.space import Params, Space

ENUMERATED = 4096  # a space with at most so many points is looked through as a whole
NEARBY = 8


def sobol(dims: int, count: int, seed: int | Sequence[int], skip: int = 0) -> Array:
    """(count, dims) points in the unit cube: those of the sequence after the first `skip`."""
    from scipy.stats import qmc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about counts that are no power of two
        sequence = qmc.Sobol(dims, rng=np.random.default_rng(seed))
        points: Array = (sequence.fast_forward(skip) if skip else sequence).random(count)
    return points


def keys(units: Array) -> list[bytes]:
    """What tells snapped points apart."""
    return [row.tobytes() for row in np.round(units, 9) + 0.0]


def fresh(units: Array, seen: Iterable[bytes]) -> Array:
    """The rows that were not seen, each once."""
    known = set(seen)
    rows = [i for i, key in enumerate(keys(units)) if not (key in known or known.add(key))]  # type: ignore[func-returns-value]
    return units[rows]


def next_design_point(space: Space, taken: Sequence[Params], seed: int) -> Params | None:
    """A point of the space's design that is not taken; None when all points are taken.

    That is the first one after as many as are taken, so that few have to be looked at.
    """
    size = space.size
    if size is None or size > ENUMERATED:
        for unit in space.snap(sobol(len(space), NEARBY, seed, skip=len(taken))):
            point = space.params(unit)
            if point not in taken:
                return point
    return _any_design_point(space, taken, seed)


def _any_design_point(space: Space, taken: Sequence[Params], seed: int) -> Params | None:
    """The first point of all that is not taken."""
    seen = set(keys(space.units(taken)))
    size = space.size
    if size is not None and len(seen) >= size:
        return None
    left = fresh(space.snap(sobol(len(space), len(taken) + 8, seed)), seen)
    if len(left):
        return space.params(left[0])
    pool = space.snap(sobol(len(space), ENUMERATED, [seed, 1])) if size is None or size > ENUMERATED else space.every()
    left = fresh(pool, seen)
    return space.params(left[0]) if len(left) else None
