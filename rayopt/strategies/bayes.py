"""Bayesian search: a Gaussian process of what was seen proposes the point of most expected improvement."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from rayopt.search.history import Observation
from rayopt.search.space import Params, Space
from rayopt.spec import Settings


class Options(Settings):
    initial: int = Field(5, ge=1, description="points that fill the space before the search learns from them")


def propose(
    space: Space, history: Sequence[Observation], pending: Sequence[Params], seed: int, options: Options
) -> Params | None:
    from rayopt.search.suggest import Problem, suggest

    return suggest(space, history, pending, seed, Problem(initial_count=options.initial))
