"""The values of a recipe: what it proposes, what became of that, and how it looks that up."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rayopt.compress.facts import Facts

Item = str | dict[str, Any]
Steps = tuple[Item, ...]


@dataclass(frozen=True)
class Budget:
    """What a search may spend: chains tried, and minutes from its start."""

    trials: int
    minutes: float


@dataclass(frozen=True)
class Tried:
    """What became of a proposal; without `ok` it failed. `cost` is its size times its latency, to the baseline's.

    `divergence` is how far its outputs are from the baseline's.
    """

    ok: bool
    drop: float = math.inf
    size_share: float = 1.0
    cost: float = 1.0
    divergence: float = math.inf


@dataclass(frozen=True)
class Proposal:
    """Steps as a job file would write them, and why they are worth trying.

    A `probe` is no candidate: it is made to learn what one layer does to the outputs.
    """

    steps: Steps
    why: str
    probe: bool = False

    @property
    def key(self) -> str:
        return key_of(self.steps)


@dataclass(frozen=True)
class Known:
    """The model's facts, the accuracy budget in the metric's unit, and what was tried, by the keys of the proposals."""

    facts: Facts
    max_drop: float
    tried: Mapping[str, Tried]

    def find(self, *steps: Item) -> Tried | None:
        return self.tried.get(key_of(steps))

    def within(self, one: Tried | None) -> bool:
        """Whether it gave a model within the accuracy budget."""
        return one is not None and one.ok and one.drop <= self.max_drop + 1e-12

    def over(self, one: Tried | None) -> bool:
        """Whether it gave a model, but one over the accuracy budget."""
        return one is not None and one.ok and not self.within(one)


def key_of(steps: Sequence[Item]) -> str:
    return json.dumps(list(steps), sort_keys=True)
