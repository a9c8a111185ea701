"""Ending evaluations early, against the rules as the papers have them, computed the slow way."""

from __future__ import annotations

import statistics

from hypothesis import given
from hypothesis import strategies as st

from rayopt.search.rungs import EarlyStop, Halving, Median, rule_of

VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@given(VALUES, st.integers(2, 4))
def test_at_a_rung_the_best_share_so_far_goes_on(values: list[float], factor: int) -> None:
    rule = Halving(1, factor)
    for number, value in enumerate(values):
        stops = rule.judge(str(number), 1, value)
        better = sum(one > value for one in values[:number])
        assert stops == (better >= max(1, (number + 1) // factor))


def test_rungs_are_powers_of_the_factor() -> None:
    rule = Halving(2, 3)
    for step in (2, 6, 18):
        assert not rule.judge("good", step, 1.0)
    assert not rule.judge("bad", 1, 0.0)
    assert rule.judge("bad", 2, 0.0)
    between = Halving(2, 3)
    for step, stops in ((6, True), (17, False), (18, True)):  # 17 belongs to the rung of 6, which has been judged
        between.judge("good", step, 1.0)
        assert between.judge("bad", step, 0.0) == stops
    late = Halving(2, 3)
    late.judge("good", 6, 1.0)
    assert [late.judge("bad", step, 0.0) for step in (2, 3, 5, 6)] == [False, False, False, True]


@given(st.lists(VALUES, min_size=1, max_size=6), st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_the_median_rule_is_that_of_averages(others: list[list[float]], mine: list[float]) -> None:
    rule = Median(2, 3)
    for number, curve in enumerate(others):
        for step, value in enumerate(curve, 1):
            rule.judge(str(number), step, value)
    for step, value in enumerate(mine, 1):
        far = [statistics.fmean(curve[:step]) for curve in others if len(curve) >= step]
        wanted = step >= 2 and len(far) >= 3 and max(mine[:step]) < statistics.median(far)
        assert rule.judge("mine", step, value) == wanted


def test_a_rule_is_made_again_from_what_was_reported() -> None:
    for given_rule in (EarlyStop(), EarlyStop(use="median", least=1)):
        rule = rule_of(given_rule, {"good": [(1, 1.0), (2, 1.0)]})
        assert rule.judge("bad", 1, 0.5)
        assert not rule_of(given_rule, {}).judge("bad", 1, 0.5)
