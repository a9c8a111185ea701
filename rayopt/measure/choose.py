"""Which models are worth having: the never-slower rule, the Pareto front and the recommendation. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Objective = Literal["balanced", "size", "speed"]
NOT_SLOWER = 1.02  # what is timed as slower than this is not taken for its size
WORTH_SHARE = 0.95  # nor is what is not smaller than this


@dataclass(frozen=True)
class Candidate:
    """What choosing looks at. `ratios` are latencies to the baseline by batch size, with their 95 % bounds.

    `drop` is how much worse than the baseline the metric is on the selection split. The baseline is timed against
    itself as well: its bounds are what timing alone makes of no difference. What is not `verified` had no data to be
    checked on.
    """

    id: str
    size_bytes: int
    drop: float
    ratios: tuple[float, ...]
    ratios_low: tuple[float, ...]
    ratios_high: tuple[float, ...]
    verified: bool = True

    @property
    def costs(self) -> tuple[float, ...]:
        """Everything of which less is better."""
        return (self.size_bytes, self.drop, *self.ratios)


def is_faster(candidate: Candidate, baseline: Candidate) -> bool:
    """Whether the candidate is measurably faster than the baseline at every batch size."""
    floors = [min(1.0, low) for low in baseline.ratios_low]
    return all(high < floor for high, floor in zip(candidate.ratios_high, floors, strict=True))


def verdict(candidate: Candidate, baseline: Candidate, max_drop: float) -> str:
    """Why a candidate cannot be recommended, or "" if it can: faster and no larger, or smaller and no slower."""
    if not candidate.verified:
        return "unverified: there was no data to check it on"
    if candidate.drop > max_drop + 1e-12:
        return "over the accuracy budget"
    if candidate.size_bytes > baseline.size_bytes:
        return "larger than the baseline"
    if is_faster(candidate, baseline):
        return ""
    if any(ratio > NOT_SLOWER for ratio in candidate.ratios):
        return "slower than the baseline"
    bounds = zip(candidate.ratios_low, baseline.ratios_high, strict=True)
    if any(low > max(1.0, high) for low, high in bounds):
        return "slower than the baseline"
    smaller = candidate.size_bytes <= WORTH_SHARE * baseline.size_bytes
    return "" if smaller else "not measurably faster than the baseline"


def pareto_front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that no other beats in everything, smallest first; of equals the first stays."""
    front: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: one.costs):
        if not any(_dominates(other.costs, candidate.costs) or other.costs == candidate.costs for other in front):
            front.append(candidate)
    return front


def recommend(front: Sequence[Candidate], baseline: Candidate, objective: Objective) -> Candidate | None:
    """The best of a front: least size, least latency of those that are faster, or least of their geometric mean."""
    faster = [one for one in front if is_faster(one, baseline)]
    able = faster if objective == "speed" else front
    if not able:
        return None

    def cost(candidate: Candidate) -> float:
        size = math.log(candidate.size_bytes / baseline.size_bytes)
        speed = sum(math.log(ratio) for ratio in candidate.ratios) / max(1, len(candidate.ratios))
        speed = speed if candidate in faster else 0.0  # what timing alone may have made of no difference
        return {"size": size, "speed": speed, "balanced": size + speed}[objective]

    return min(able, key=lambda candidate: (cost(candidate), candidate.drop))


def _dominates(left: tuple[float, ...], right: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in zip(left, right, strict=True)) and left != right
