"""What a run says of itself: a log for people, the same as JSON for programs, and counts for whoever watches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rayopt import api
from rayopt.onray.metrics import COUNTERS, GAUGES, Metered
from rayopt.watch import Logged, Silent, log, logging_to


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_line_of_json_tells_run_and_candidate(small_job: Callable[..., Path], tmp_path: Path) -> None:
    summary = api.run(small_job(), tmp_path / "out", address="inprocess")
    told = lines(tmp_path / "out" / "log.jsonl")
    assert len({one["run_id"] for one in told}) == 1
    assert {one["run"] for one in told} == {"small"}
    assert all(one["time"].endswith("+00:00") and one["level"] and one["message"] for one in told)
    ended = {one["candidate"] for one in told if one.get("event") == "candidate"}
    assert ended == {one["id"] for one in summary["candidates"]} | {summary["baseline"]["id"]}
    best = [one["best"]["size_bytes"] for one in told if one.get("event") == "candidate" and one.get("best")]
    assert best == sorted(best, reverse=True)
    tasks = [one for one in told if one.get("event") == "ended"]
    assert all(one["task"].startswith(one["candidate"]) and one["status"] == "done" for one in tasks)
    again = api.run(small_job(), tmp_path / "out", address="inprocess")
    assert again["baseline"]["sha256"] == summary["baseline"]["sha256"]
    assert len({one["run_id"] for one in lines(tmp_path / "out" / "log.jsonl")}) == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_has_no_number_for_is_text(tmp_path: Path, value: float) -> None:
    with logging_to(tmp_path / "log.txt", {"run": "a"}):
        Logged(Silent()).measured(3, {"loss": value})
    (told,) = lines(tmp_path / "log.jsonl")
    assert told["metrics"] == {"loss": str(value)}
    assert told["step"] == 3


def test_a_trace_is_one_line(tmp_path: Path) -> None:
    with logging_to(tmp_path / "log.txt"):
        try:
            raise ValueError("two\nlines")
        except ValueError:
            log.exception("it broke")
    (told,) = lines(tmp_path / "log.jsonl")
    assert "ValueError: two\nlines" in told["trace"]


class Counting(Metered):
    """Its metrics are a list."""

    def __init__(self) -> None:
        super().__init__(Silent(), "mine")
        self.recorded: list[tuple[str, float, dict[str, str]]] = []

    def _record(self, name: str, value: float, tags: dict[str, str]) -> None:
        self.recorded.append((name, value, tags))


def test_what_happens_before_ray_is_there_is_counted_later(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import SimpleNamespace

    ray = SimpleNamespace(is_initialized=lambda: False)
    monkeypatch.setitem(sys.modules, "ray", ray)
    watcher = Counting()
    watcher.planned(7)
    watcher.ended("a:selection", "a", "done", "", True)
    assert watcher.recorded == []
    ray.is_initialized = lambda: True
    watcher.candidate("a", "done", {"accuracy": 0.5})
    assert watcher.recorded == [
        ("rayopt_tasks_planned", 7, {"run": "mine"}),
        ("rayopt_tasks", 1, {"run": "mine", "status": "done"}),
        ("rayopt_cache_hits", 1, {"run": "mine"}),
        ("rayopt_candidates", 1, {"run": "mine", "status": "done"}),
        ("rayopt_best", 0.5, {"run": "mine", "metric": "accuracy"}),
    ]
    for name, _, tags in watcher.recorded:
        assert set(tags) == set((COUNTERS | GAUGES)[name][1])


def test_a_metric_that_fails_does_not_stop_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import SimpleNamespace

    def broken(*_: Any) -> None:
        raise RuntimeError("no metrics")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
    watcher = Counting()
    monkeypatch.setattr(watcher, "_record", broken)
    watcher.candidate("a", "done", {})


def test_the_dashboard_shows_what_is_counted() -> None:
    import re

    board = json.loads((Path(__file__).parent.parent / "cluster" / "grafana.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    found = {name for expr in asked for name in re.findall(r"ray_(rayopt_\w+?)(?:_total)?\{", expr)}
    assert found == set(COUNTERS) | set(GAUGES)
    for expr in asked:
        assert ("_total{" in expr) == any(f"ray_{name}_total" in expr for name in COUNTERS)
        assert 'run=~"$run"' in expr
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
