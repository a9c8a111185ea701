"""Histories: what is remembered, and that a journal alone gives it back."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from rayopt.search.history import History, Observation, observed, warm_start
from rayopt.search.space import Space


def test_a_journal_gives_back_the_whole_state(tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    history = History(path)
    for value in (1.0, 2.0, 3.0, 4.0):
        history.ask({"x": value})
    history.tell(Observation({"x": 1.0}, 0.25, cost_s=1.5, metrics={"latency_ms": 2.0}))
    history.tell(Observation({"x": 3.0}, None, "MemoryError"))
    history.drop({"x": 4.0})
    again = History(path)
    assert again.observations == history.observations
    assert again.observations[0].metrics == {"latency_ms": 2.0}
    assert again.observations[1].reason == "MemoryError"
    assert again.pending == history.pending == ({"x": 2.0},)
    assert again.best == history.observations[0]


def test_a_torn_last_line_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    history = History(path)
    history.tell(Observation({"x": 1.0}, 0.5))
    history.tell(Observation({"x": 2.0}, 0.7))
    path.write_bytes(path.read_bytes()[:-9])
    again = History(path)
    assert [one.value for one in again.observations] == [0.5]
    again.tell(Observation({"x": 3.0}, 0.9))
    assert [one.value for one in History(path).observations] == [0.5, 0.9]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "much"])
def test_what_is_no_number_is_a_failure_with_a_reason(value: object, tmp_path: Path) -> None:
    history = History(tmp_path / "search.jsonl")
    history.tell(observed({"x": 1}, value))
    history.tell(Observation({"x": 2}, value if isinstance(value, float) else None, "raised"))
    for one in (*history.observations, *History(tmp_path / "search.jsonl").observations):
        assert one.failed
        assert one.reason
    assert history.best is None


def test_numpy_values_are_written_as_plain_ones(tmp_path: Path) -> None:
    history = History(tmp_path / "search.jsonl")
    history.tell(observed({"n": np.int64(3), "x": np.float64(0.5)}, np.float32(0.5)))
    assert History(tmp_path / "search.jsonl").observations == history.observations


def test_points_are_read_as_the_space_has_them(tmp_path: Path) -> None:
    space = Space.from_settings({"weights": {"choices": [{0: 1, 1: 5}, None]}, "range": {"choices": [(1, 1), (1, 2)]}})
    path = tmp_path / "observations.jsonl"
    asked = {"weights": {0: 1, 1: 5}, "range": (1, 2)}
    history = History(path, space)
    history.ask(asked)
    history.ask({**asked, "range": (1, 1)})
    history.tell(observed(asked, 0.5))
    again = History(path, space)
    assert again.observations[0].params == asked
    assert again.pending == ({**asked, "range": (1, 1)},)


def test_a_warm_start_leaves_out_what_lies_outside_and_says_so() -> None:
    space = Space.from_settings({"x": (0.0, 1.0), "kernel": ["rbf", "poly"]})
    earlier = [
        Observation({"x": 0.5, "kernel": "rbf"}, 0.9),
        Observation({"x": 1.5, "kernel": "rbf"}, 0.8),
        Observation({"x": 0.5}, 0.7),
        Observation({"x": 0.1, "kernel": "poly"}, None, "failed"),
    ]
    warm = warm_start(space, earlier)
    assert [one.value for one in warm.observations] == [0.9, None]
    assert len(warm.left_out) == 2
    assert "x: 1.5 is not within 0 to 1" in warm.left_out[0]
    assert "kernel is missing" in warm.left_out[1]
