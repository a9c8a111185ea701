"""Suggestions: they learn, keep apart from what is in flight, from failures and from broken limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rayopt.search.history import Observation, observed
from rayopt.search.importance import importance
from rayopt.search.space import Space
from rayopt.search.stopping import Stop, reason_to_stop
from rayopt.search.suggest import PLAIN, Problem, suggest

SQUARE = Space.from_settings({"x": (0.0, 1.0), "y": (0.0, 1.0)})


def search(
    space: Space, evaluate: Callable[[dict[str, Any]], Observation], count: int, problem: Problem = PLAIN
) -> list[Observation]:
    history: list[Observation] = []
    for _ in range(count):
        point = suggest(space, history, (), 0, problem)
        assert point is not None
        history.append(evaluate(dict(point)))
    return history


def bowl(point: dict[str, Any]) -> float:
    return -((point["x"] - 0.3) ** 2) - (point["y"] - 0.8) ** 2


def test_it_finds_the_top_of_a_hill() -> None:
    history = search(SQUARE, lambda point: observed(point, bowl(point)), 20)
    assert max(one.value or -9 for one in history) > -1e-4


def test_points_in_flight_keep_others_away() -> None:
    history = search(SQUARE, lambda point: observed(point, bowl(point)), 12)
    pending: list[Any] = []
    for _ in range(4):
        pending.append(suggest(SQUARE, history, pending, 0))
    units = SQUARE.units(pending)
    gaps = np.abs(units[:, None] - units[None]).max(axis=2)[np.triu_indices(4, 1)]
    assert gaps.min() > 1e-4


def test_failures_are_learnt_around() -> None:
    def evaluate(point: dict[str, Any]) -> Observation:
        return observed(point, float("nan") if point["x"] > 0.5 else point["x"] + 0.1 * point["y"])

    history = search(SQUARE, evaluate, 30)
    assert sum(one.failed for one in history[15:]) < 9
    assert max(one.value for one in history if one.value is not None) > 0.5


def test_all_may_fail() -> None:
    history = search(SQUARE, lambda point: Observation(point, None, "raised"), 12)
    assert len({tuple(one.params.items()) for one in history}) == 12


def test_limits_are_kept() -> None:
    def evaluate(point: dict[str, Any]) -> Observation:
        return observed(point, point["x"] + point["y"], metrics={"latency_ms": 1 + 2 * point["x"]})

    history = search(SQUARE, evaluate, 25, Problem(limits={"latency_ms": (-np.inf, 2.0)}))
    kept = [one.value for one in history if one.metrics["latency_ms"] <= 2.0 and one.value is not None]
    assert max(kept) > 1.45  # the best is 0.5 + 1


def test_several_objectives_spread_over_the_front() -> None:
    space = Space.from_settings({"x": (0.0, 1.0), "y": (0.0, 1.0)})

    def evaluate(point: dict[str, Any]) -> Observation:
        rest = (point["y"] - 0.5) ** 2
        return observed(point, -(point["x"] ** 2) - rest, metrics={"loss": (1 - point["x"]) ** 2 + rest})

    history = search(space, evaluate, 30, Problem(also={"loss": -1}))
    near = [one.params["x"] for one in history[10:] if abs(one.params["y"] - 0.5) < 0.1]
    assert len(near) > 10
    assert max(near) - min(near) > 0.5


@pytest.mark.parametrize(
    "values", [[0.0] * 8, [1e300, -1e300] * 4, [1e-320, 0.0] * 4, [-1e12] + [0.1 * i for i in range(7)]]
)
def test_odd_values_still_give_a_point(values: list[float]) -> None:
    units = np.random.default_rng(0).random((len(values), 2))
    history = [observed(SQUARE.params(unit), value) for unit, value in zip(units, values, strict=True)]
    assert suggest(SQUARE, history, (), 0) is not None


def test_the_same_point_may_be_there_often() -> None:
    history = [observed({"x": 0.5, "y": 0.5}, 0.1 * (index % 2)) for index in range(20)]
    assert suggest(SQUARE, history, (), 0) not in (None, {"x": 0.5, "y": 0.5})


def test_importance_is_that_of_what_matters() -> None:
    generator = np.random.default_rng(0)
    points = [SQUARE.params(unit) for unit in generator.random((40, 2))]
    shares = importance(SQUARE, [observed(point, np.sin(6 * point["x"]) + 0.05 * point["y"]) for point in points])
    assert shares["x"] > 0.9
    assert sum(shares.values()) == pytest.approx(1)
    assert importance(SQUARE, [observed(point, 1.0) for point in points]) == {}


def test_stopping() -> None:
    history = [observed({}, value) for value in (0.1, 0.5, 0.4, 0.5)]
    assert reason_to_stop(Stop(), history, 1e9) == ""
    assert reason_to_stop(Stop(patience=3), history, 0) == ""
    assert reason_to_stop(Stop(patience=2), history, 0) == "nothing better in 2 evaluations"
    assert reason_to_stop(Stop(target=0.5), history, 0) == "the target 0.5 is reached"
    assert reason_to_stop(Stop(time_s=10), history, 9.9) == ""
    assert reason_to_stop(Stop(time_s=10), history, 10.1) == "10 s have passed"
    assert reason_to_stop(Stop(patience=2, min_gain=0.6), history, 0) == "nothing better in 3 evaluations"
