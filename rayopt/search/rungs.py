"""Which evaluations are not worth ending, judged by what they report on the way. Pure, told of everything in order.

Asynchronous successive halving (Li et al., 2020) and the median rule (Golovin et al., 2017, section 3.2.2).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from pydantic import Field

from rayopt.spec import Settings


class EarlyStop(Settings):
    """How evaluations are ended early."""

    use: Literal["asha", "median"] = "asha"
    metric: str | None = Field(None, description="what is reported on the way; by default the objective's last name")
    direction: Literal["max", "min"] | None = Field(None, description="by default the objective's")
    grace: int = Field(1, ge=1, description="the step before which none is ended")
    factor: int = Field(3, ge=2, description="asha: of so many that come to a rung one goes on")
    least: int = Field(3, ge=1, description="median: how many others have to have come as far")


class Rule(Protocol):
    def judge(self, trial: str, step: int, value: float) -> bool:
        """Takes in what a trial reports (more is better), and tells whether it is to stop."""


class Halving:
    """Rungs at steps grace, grace * factor, ...: at each a trial goes on if it is among the best 1/factor so far.

    The first one at a rung goes on: nobody waits for others.
    """

    def __init__(self, grace: int, factor: int) -> None:
        self._grace, self._factor = grace, factor
        self._rungs: dict[int, dict[str, float]] = {}

    def judge(self, trial: str, step: int, value: float) -> bool:
        rung = self._grace
        if step < rung:
            return False
        while rung * self._factor <= step:
            rung *= self._factor
        seen = self._rungs.setdefault(rung, {})
        if trial in seen:
            return False
        seen[trial] = value
        ranked = sorted(seen.values(), reverse=True)
        return value < ranked[max(1, len(ranked) // self._factor) - 1]


class Median:
    """A trial stops whose best value so far is below the median of what others had on average up to this step."""

    def __init__(self, grace: int, least: int) -> None:
        self._grace, self._least = grace, least
        self._told: dict[str, list[tuple[int, float]]] = {}

    def judge(self, trial: str, step: int, value: float) -> bool:
        mine = self._told.setdefault(trial, [])
        mine.append((step, value))
        others = [one for name, one in self._told.items() if name != trial and one[-1][0] >= step]
        if step < self._grace or len(others) < self._least:
            return False
        averages = [statistics.fmean(value for at, value in one if at <= step) for one in others if one[0][0] <= step]
        return len(averages) >= self._least and max(value for _, value in mine) < statistics.median(averages)


def rule_of(given: EarlyStop, reports: Mapping[str, Sequence[tuple[int, float]]]) -> Rule:
    """The rule, told of what was reported before."""
    rule: Rule = Halving(given.grace, given.factor) if given.use == "asha" else Median(given.grace, given.least)
    for trial, told in reports.items():
        for step, value in told:
            rule.judge(trial, step, value)
    return rule
