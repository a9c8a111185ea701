"""Ways to choose the next point of a space, one file each. To add one, add a file; nothing else names it.

A strategy is a module with

    Options    a `Settings` class: what may be set, with defaults and limits
    propose(space, history, pending, seed, options) -> Params | None

`history` holds the observations so far (more of their value is better), `pending` the points that are being evaluated.
A proposal depends on the arguments alone: the same ones give the same point, so that a search goes on from its journal
as if it had never stopped. None: every point of the space has been tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

from rayopt import plugins
from rayopt.search.history import Observation
from rayopt.search.space import Params, Space
from rayopt.spec import Settings


class Strategy(Protocol):
    """The face of a strategy's module."""

    __doc__: str | None
    Options: type[Settings]

    def propose(
        self, space: Space, history: Sequence[Observation], pending: Sequence[Params], seed: int, options: Any
    ) -> Params | None: ...


PARTS = ("Options", "propose")


def names() -> list[str]:
    """The strategies of this room."""
    return plugins.names("rayopt.strategies")


def find(name: str, place: str = "strategy") -> Strategy:
    """The strategy of that name in this room, or at that dotted path; raises InputError at `place`."""
    return cast(Strategy, plugins.load("rayopt.strategies", name, place, PARTS))


def summary_of(strategy: Strategy) -> str:
    """The first line of a strategy's docstring."""
    return (strategy.__doc__ or "").strip().partition("\n")[0]


__all__ = ["Observation", "Params", "Space", "Strategy", "find", "names", "summary_of"]
