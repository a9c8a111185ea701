"""What a search of jobs is for: objectives, bounds, and which trials are best by them. Values come from summaries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rayopt.errors import did_you_mean, input_error
from rayopt.search import pareto
from rayopt.search.history import Observation
from rayopt.spec import Settings

PLACE = "objective"


class Goal(Settings):
    """A quantity of a job's summary, by its dotted name, of which more or less is better."""

    metric: str
    direction: Literal["max", "min"] = "max"

    @property
    def sign(self) -> int:
        return 1 if self.direction == "max" else -1


class Bound(Settings):
    """What a quantity has to keep to be allowed."""

    at_least: float | None = None
    at_most: float | None = None

    def keeps(self, value: float | None) -> bool:
        if value is None:
            return False
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return low <= value <= high


@dataclass(frozen=True)
class Aim:
    """The first goal decides; further ones make a front. Observations have the first one's value times its sign."""

    goals: tuple[Goal, ...]
    bounds: Mapping[str, Bound]

    @property
    def names(self) -> list[str]:
        """Everything that is read from a summary."""
        return list(dict.fromkeys([*(goal.metric for goal in self.goals), *self.bounds]))

    def about(self) -> dict[str, Any]:
        """What the values of a journal are of."""
        return {"objectives": [goal.model_dump() for goal in self.goals]}

    def read(self, summary: Mapping[str, Any]) -> tuple[float | None, dict[str, float], str]:
        """The value, all metrics and why there is no value; raises InputError where the summary has no such place."""
        metrics, lacking = {}, []
        for name in self.names:
            found = quantity(summary, name)
            if found is None:
                lacking.append(name)
            else:
                metrics[name] = found
        if lacking:
            return None, metrics, f"the summary has no number at {', '.join(lacking)}"
        return self.goals[0].sign * metrics[self.goals[0].metric], metrics, ""

    def allows(self, one: Observation) -> bool:
        return not one.failed and all(bound.keeps(one.metrics.get(name)) for name, bound in self.bounds.items())

    def best(self, observations: Sequence[Observation]) -> int | None:
        """The index of the best that is allowed by the first goal, the earliest of equals."""
        allowed = [(one.value or 0.0, -index) for index, one in enumerate(observations) if self.allows(one)]
        return -max(allowed)[1] if allowed else None

    def front(self, observations: Sequence[Observation]) -> list[int]:
        """The indices of the allowed ones that no other allowed one beats in every goal, best first by the first."""
        allowed = [index for index, one in enumerate(observations) if self.allows(one)]
        if not allowed:
            return []
        points = self._points([observations[index] for index in allowed])
        kept = sorted(pareto.front(points), key=lambda row: -points[row, 0])
        return [allowed[row] for row in kept]

    def hypervolume(self, observations: Sequence[Observation]) -> tuple[float, dict[str, float]] | None:
        """The volume that the front dominates above the worst of each goal among all allowed, and that worst point."""
        allowed = [one for one in observations if self.allows(one)]
        if len(self.goals) < 2 or not allowed:
            return None
        points = self._points(allowed)
        worst = points.min(axis=0)
        named = {goal.metric: float(goal.sign * low) for goal, low in zip(self.goals, worst, strict=True)}
        return pareto.hypervolume(points[pareto.front(points)], worst), named

    def hopeless(self, observations: Sequence[Observation]) -> str:
        """Why none of them is the best."""
        failed = [one for one in observations if one.failed]
        if len(failed) == len(observations):
            last = failed[-1].reason if failed else "nothing was evaluated"
            return f"all {len(observations)} trials failed; the last one: {last}"
        bounds = ", ".join(f"{name} {one.model_dump(exclude_none=True)}" for name, one in self.bounds.items())
        return f"none of {len(observations)} trials keeps {bounds}"

    def _points(self, observations: Sequence[Observation]) -> Any:
        return np.array([[goal.sign * one.metrics[goal.metric] for goal in self.goals] for one in observations])


def quantity(summary: Mapping[str, Any], name: str) -> float | None:
    """The number at a dotted name such as `recommended.latency_ms.1`; None where it or something above it is null.

    Raises InputError where there is no such name, with the names that there are.
    """
    found: Any = summary
    path = name.split(".")
    for depth, key in enumerate(path):
        if found is None:
            return None
        if isinstance(found, list) and key.lstrip("-").isdigit() and -len(found) <= int(key) < len(found):
            found = found[int(key)]
        elif isinstance(found, Mapping) and key in found:
            found = found[key]
        else:
            raise _no_such(summary, name, ".".join(path[:depth]), found, key)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise input_error(PLACE, f"{name} is {_short(found)} in the job's summary, no number", _numbers(summary, name))
    return float(found) if math.isfinite(found) else None


def _no_such(summary: Mapping[str, Any], name: str, above: str, found: Any, key: str) -> Exception:
    where = f"`{above}` of the job's summary" if above else "the job's summary"
    return input_error(PLACE, f"{where} has no {key!r} (of {name})", _numbers(summary, name))


def _numbers(summary: Mapping[str, Any], name: str) -> str:
    return did_you_mean(name, sorted(_paths(summary, "", 3)))


def _paths(value: Any, prefix: str, depth: int) -> list[str]:
    """The dotted names of numbers, not deeper than `depth`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [prefix]
    if not isinstance(value, Mapping) or not depth:
        return []
    return [path for key, one in value.items() for path in _paths(one, f"{prefix}.{key}".lstrip("."), depth - 1)]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
