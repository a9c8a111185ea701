"""Bayesian search: a Gaussian process of what was seen proposes the point of most expected improvement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from rayopt.search.history import Observation
from rayopt.search.space import Params, Space
from rayopt.spec import Settings


class Limit(Settings):
    at_least: float | None = None
    at_most: float | None = None


class Options(Settings):
    initial: int = Field(5, ge=1, description="points that fill the space before the search learns from them")
    limits: dict[str, Limit] = Field({}, description="bounds that metrics have to keep, as latency_ms: {at_most: 2}")
    also: dict[str, Literal["max", "min"]] = Field({}, description="further objectives, as latency_ms: min")


def propose(
    space: Space, history: Sequence[Observation], pending: Sequence[Params], seed: int, options: Options
) -> Params | None:
    from rayopt.search.suggest import Problem, suggest

    limits = {
        name: (
            -math.inf if one.at_least is None else one.at_least,
            math.inf if one.at_most is None else one.at_most,
        )
        for name, one in options.limits.items()
    }
    also = {name: 1 if way == "max" else -1 for name, way in options.also.items()}
    return suggest(space, history, pending, seed, Problem(limits, also, options.initial))
