"""Interleaved timing under a clock that the test moves."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from rayopt.measure.latency import Rounds, interleave, median, median_interval


class Machine:
    """A clock, and calls that take a set time on it; the machine as a whole can slow down."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slowness = 1.0
        self.order: list[str] = []

    def clock(self) -> float:
        return self.now

    def call(self, name: str, seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.order.append(name)
            self.now += seconds * self.slowness
            self.slowness *= 1.001

        return run


def test_ratios_hold_while_the_machine_slows_down() -> None:
    machine = Machine()
    calls = {"base": machine.call("base", 0.010), "half": machine.call("half", 0.005)}
    found = interleave(calls, "base", 8, Rounds(), machine.clock)
    assert machine.slowness > 1.05
    assert found["half"].ratio == pytest.approx(0.5, rel=0.01)
    assert found["half"].ratio_low <= found["half"].ratio <= found["half"].ratio_high
    assert found["base"].ratio == 1.0
    assert found["half"].batch_size == 8


def test_a_model_that_is_clearly_slower_is_timed_no_further() -> None:
    machine = Machine()
    calls = {
        "base": machine.call("base", 0.002),
        "slow": machine.call("slow", 0.02),
        "even": machine.call("even", 0.002),
    }
    found = interleave(calls, "base", 1, Rounds(least=5, most=40, seconds=10), machine.clock)
    assert found["slow"].rounds_count == 5
    assert found["even"].rounds_count == 40


def test_short_calls_are_repeated_within_a_slot() -> None:
    machine = Machine()
    calls = {"base": machine.call("base", 0.0001), "other": machine.call("other", 0.0002)}
    interleave(calls, "base", 1, Rounds(least=3, most=3), machine.clock)
    longest = max(len(list(group)) for _, group in itertools.groupby(machine.order))
    assert longest >= 10


def test_the_interval_of_the_median_holds_it_95_times_in_100() -> None:
    chance = random.Random(0)
    held = 0
    for _ in range(2000):
        low, high = median_interval([chance.gauss(3, 1) for _ in range(21)])
        held += low <= 3 <= high
    assert 0.945 <= held / 2000 <= 0.985


def test_the_median_of_an_even_number_is_between() -> None:
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5
    assert median_interval([1.0, 2.0, 3.0]) == (1.0, 3.0)
