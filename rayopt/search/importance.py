"""How much each parameter matters to the value, as a Gaussian process of the history believes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rayopt.search import design, warp
from rayopt.search.gaussian import Posterior
from rayopt.search.history import Observation
from rayopt.search.learnt import learnt_from
from rayopt.search.parameters import Array
from rayopt.search.space import Space
from rayopt.search.threads import one_thread

POINTS = 512


def importance(space: Space, history: Sequence[Observation], seed: int = 0) -> dict[str, float]:
    """By parameter, the share of the value's variation over the space in which it has a part; the shares sum to 1.

    Total-effect indices (Jansen, 1999). Empty when the history says nothing: fewer than four values, or all the same.
    Of a long history a part is looked at (`learnt_from`).
    """
    good = learnt_from([one for one in history if not one.failed])
    values = np.array([one.value for one in good], dtype=float)
    if len(good) < 4 or np.ptp(values) == 0:
        return {}
    with one_thread():
        return _shares(space, good, values, seed)


def _shares(space: Space, good: Sequence[Observation], values: Array, seed: int) -> dict[str, float]:
    units = space.units(one.params for one in good)
    curved, hyper = warp.fitted(units, values, space.nominal)
    belief = Posterior(units, curved, space.nominal, hyper)
    here, there = np.split(design.sobol(2 * len(space), POINTS, seed), 2, axis=1)
    before = belief.predict(space.snap(here))[0]
    effects = {}
    for column, name in enumerate(space.names):
        moved = here.copy()
        moved[:, column] = there[:, column]
        effects[name] = float(((before - belief.predict(space.snap(moved))[0]) ** 2).mean())
    total = sum(effects.values())
    return {name: effect / total for name, effect in effects.items()} if total > 0 else {}
