"""Asking and telling: every point once, whatever ends the search in between; it stops when it is told to."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rayopt.search.asking import EXHAUSTED, HOPELESS, Asking
from rayopt.search.history import History, Observation, carried_on, observed
from rayopt.search.stopping import Stop


def counting(seen: Sequence[Observation], pending: Sequence[Any]) -> dict[str, Any]:
    """The lowest whole number that nobody has."""
    taken = {one.params["x"] for one in seen} | {one["x"] for one in pending}
    return {"x": min(set(range(len(taken) + 1)) - taken)}


def test_so_many_are_asked_and_no_more() -> None:
    asking = Asking(counting, History(), 3)
    points = [asking.ask() for _ in range(4)]
    assert points == [{"x": 0}, {"x": 1}, {"x": 2}, None]
    asking.tell(observed({"x": 1}, 1.0))
    assert asking.ask() is None
    assert asking.is_open
    asking.tell(observed({"x": 0}, 1.0))
    asking.tell(observed({"x": 2}, 1.0))
    assert not asking.is_open


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 12))
def test_a_search_that_is_killed_at_any_moment_evaluates_every_point_once(seed: int, flying: int, count: int) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "observations.jsonl"
        told: list[Any] = []
        asking, flight = Asking(counting, History(path), count), list[Any]()
        for _ in range(1000):
            if len(told) == count:
                break
            if chance.random() < 0.2:  # the driver dies, and what it had in flight with it
                if path.is_file() and chance.random() < 0.5:
                    path.write_bytes(path.read_bytes()[:-1] if not flight else path.read_bytes() + b'{"event": "to')
                asking, flight = Asking(counting, History(path), count), []
                told = [one.params["x"] for one in asking.observations]
                continue
            point = asking.ask() if len(flight) < flying else None
            if point is not None:
                flight.append(point)
            elif flight:
                done = flight.pop(chance.randrange(len(flight)))
                asking.tell(observed(done, float(done["x"])))
                told.append(done["x"])
        assert sorted(told) == list(range(count))
        assert [one.params["x"] for one in History(path).observations] == told


def test_unfinished_points_come_first_and_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "observations.jsonl"
    first = Asking(counting, History(path), 4)
    first.ask(), first.ask()
    first.tell(observed({"x": 1}, 0.5))
    again = Asking(counting, History(path), 4)
    assert [again.ask() for _ in range(4)] == [{"x": 0}, {"x": 2}, {"x": 3}, None]


def test_reasons_to_end(tmp_path: Path) -> None:
    def told(asking: Asking, values: Sequence[float | None]) -> Asking:
        for value in values:
            point = asking.ask()
            if point is None:
                break
            asking.tell(observed(point, value))
        asking.ask()
        return asking

    now = [0.0]
    assert told(Asking(counting, History(), 50, Stop(target=0.5)), [0.1, 0.6, 0.7]).over == "the target 0.5 is reached"
    assert told(Asking(counting, History(), 50, Stop(target=0.5), sign=-1), [-0.6, -0.4, 0]).over.startswith(
        "the target"
    )
    assert len(told(Asking(counting, History(), 50, Stop(patience=2)), [1, 2, 1, 1, 9]).observations) == 4
    timed = Asking(counting, History(), 50, Stop(time_s=10), clock=lambda: now[0])
    assert timed.ask() is not None
    now[0] = 10.0
    assert timed.ask() is None
    assert "10 s have passed" in timed.over
    path, now[0] = tmp_path / "observations.jsonl", 0.0
    first = Asking(counting, History(path), 50, Stop(time_s=10), clock=lambda: now[0])
    point = first.ask()
    assert point is not None
    now[0] = 7.0
    first.tell(observed(point, 1.0))
    now[0] = 100.0
    again = Asking(counting, History(path), 50, Stop(time_s=10), clock=lambda: now[0])
    assert again.ask() is not None
    now[0] = 103.0
    assert again.ask() is None, "what the first run took counts too"
    failing = told(Asking(counting, History(), 50), [None] * 20)
    assert len(failing.observations) == HOPELESS
    assert "all failed" in failing.over
    assert len(told(Asking(counting, History(), 20), [1.0] + [None] * 19).observations) == 20
    assert told(Asking(lambda seen, pending: None, History(), 5), []).over == EXHAUSTED


def test_what_is_known_from_elsewhere_is_learnt_from_and_does_not_count() -> None:
    seen: list[Any] = []

    def propose(history: Sequence[Observation], pending: Sequence[Any]) -> dict[str, Any]:
        seen.append([one.params["x"] for one in history])
        return counting(history, pending)

    asking = Asking(propose, History(), 2, earlier=[observed({"x": 0}, 1.0)])
    assert (asking.ask(), asking.ask(), asking.ask()) == ({"x": 1}, {"x": 2}, None)
    assert seen == [[0], [0]]


def test_what_was_ended_early_is_believed_to_have_gone_on_as_others_did() -> None:
    whole = [Observation({"x": x}, 10.0 * x) for x in (1, 2, 4)]
    stopped = Observation({"x": 3}, 15.0, stopped_at=1)
    unknown = Observation({"x": 5}, 1.0, stopped_at=7)
    reports = {f'{{"x": {x}}}': [(1, 5.0 * x), (2, 10.0 * x)] for x in (1, 2, 4)}
    found = carried_on([*whole, stopped, unknown], reports)
    assert [one.value for one in found] == [10.0, 20.0, 40.0, 15.0 + 10.0, 1.0]  # others gained 5, 10 and 20


def test_the_journal_keeps_reports_and_what_it_is_about(tmp_path: Path) -> None:
    path = tmp_path / "observations.jsonl"
    history = History(path)
    history.begin({"objectives": 1})
    history.begin({"objectives": 2})
    history.ask({"x": 1})
    history.report({"x": 1}, 1, 0.5)
    history.report({"x": 1}, 2, 0.7)
    history.tell(Observation({"x": 1}, 0.7, stopped_at=2))
    again = History(path)
    assert again.about == {"objectives": 1}
    assert again.reports == {'{"x": 1}': ((1, 0.5), (2, 0.7))}
    assert again.observations == (Observation({"x": 1}, 0.7, stopped_at=2),)
    assert again.pending == ()
