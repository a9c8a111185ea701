"""Points at random, spread evenly over the space (a scrambled Sobol sequence); none twice."""

from __future__ import annotations

from collections.abc import Sequence

from rayopt.search.history import Observation
from rayopt.search.space import Params, Space
from rayopt.spec import Settings


class Options(Settings):
    pass


def propose(
    space: Space, history: Sequence[Observation], pending: Sequence[Params], seed: int, options: Options
) -> Params | None:
    from rayopt.search.design import next_design_point

    return next_design_point(space, [*(one.params for one in history), *pending], seed)
