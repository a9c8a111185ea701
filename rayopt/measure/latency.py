"""Latency of many models against a baseline, interleaved, so that a machine that slows down slows all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rayopt.records import Latency

Clock = Callable[[], float]
SLOT_S = 0.001


@dataclass(frozen=True)
class Rounds:
    """How often each model is timed: at least `least`, then until `seconds` are spent per model, at most `most`."""

    least: int = 15
    most: int = 61
    seconds: float = 0.3


def interleave(
    calls: Mapping[str, Callable[[], object]],
    baseline: str,
    batch_size: int,
    rounds: Rounds,
    clock: Clock = time.perf_counter,
) -> dict[str, Latency]:
    """Times each call once a round, in alternating order; the ratio is taken within the round, then its median.

    A call shorter than a millisecond is repeated within its slot. A model that is clearly slower than the baseline
    after the least number of rounds is timed no further.
    """
    repeats = {name: _repeats(call, clock) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    ratios: dict[str, list[float]] = {name: [] for name in calls}
    spent = dict.fromkeys(calls, 0.0)
    active = list(calls)
    for index in range(rounds.most):
        order = active if index % 2 == 0 else active[::-1]
        in_round = {name: _slot(calls[name], repeats[name], clock) for name in order}
        for name in order:
            seconds[name].append(in_round[name])
            ratios[name].append(in_round[name] / in_round[baseline])
            spent[name] += in_round[name] * (repeats[name] + 1)
        if index + 1 >= rounds.least:
            active = [name for name in active if name == baseline or not _settled(ratios[name], spent[name], rounds)]
            if active == [baseline]:
                break
    return {name: _summary(batch_size, seconds[name], ratios[name]) for name in calls}


def _repeats(call: Callable[[], object], clock: Clock) -> int:
    """How many calls fill a slot, from the second call: the first one allocates."""
    call()
    start = clock()
    call()
    took = clock() - start
    return max(1, min(50, math.ceil(SLOT_S / took))) if took > 0 else 50


def _slot(call: Callable[[], object], repeats: int, clock: Clock) -> float:
    """Seconds per call over one slot, after a call that brings the model back into the caches."""
    call()
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats


def _settled(ratios: Sequence[float], spent: float, rounds: Rounds) -> bool:
    low, _ = median_interval(ratios)
    return spent >= rounds.seconds or low > 1.5


def _summary(batch_size: int, seconds: Sequence[float], ratios: Sequence[float]) -> Latency:
    low, high = median_interval(ratios)
    return Latency(batch_size, 1000 * median(seconds), median(ratios), low, high, len(ratios))


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median by order statistics (the sign test turned round; Thompson, 1936)."""
    ordered = sorted(values)
    n = len(ordered)
    below, total = 0, 0.0
    while below < n // 2:
        total += math.comb(n, below) / 2**n
        if total > 0.025:
            break
        below += 1
    first = max(0, below - 1)
    return ordered[first], ordered[n - 1 - first]
