"""What a run does as metrics of Ray, which its dashboard and Prometheus show beside the cluster's own.

Ray names them `ray_rayopt_...`; each has the run's name as the tag `run`.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import Any

from rayopt.watch import Watcher

COUNTERS = {
    "rayopt_candidates": ("Candidates that have ended, by how.", ("run", "status")),
    "rayopt_tasks": ("Steps, evaluations and timings that have ended, by how.", ("run", "status")),
    "rayopt_cache_hits": ("Results that were there already and were not made again.", ("run",)),
}
GAUGES = {
    "rayopt_best": ("The best so far of what the run looks for, by its name.", ("run", "metric")),
    "rayopt_tasks_planned": ("Steps, evaluations and timings that are known of.", ("run",)),
}


class Metered:
    """Counts what happens and passes it on. What happens before Ray is there is counted once it is."""

    def __init__(self, then: Watcher, run: str) -> None:
        self._then, self._run = then, run
        self._metrics: dict[str, Any] = {}
        self._waiting: list[tuple[str, float, dict[str, str]]] = []

    def planned(self, count: int) -> None:
        self._tell("rayopt_tasks_planned", count)
        self._then.planned(count)

    def backend_started(self, name: str, dashboard: str | None, seconds: float) -> None:
        self._flush()
        self._then.backend_started(name, dashboard, seconds)

    def started(self, id: str, name: str) -> None:
        self._then.started(id, name)

    def ended(self, id: str, name: str, status: str, reason: str, cached: bool) -> None:
        self._tell("rayopt_tasks", 1, status=status)
        if cached:
            self._tell("rayopt_cache_hits", 1)
        self._then.ended(id, name, status, reason, cached)

    def candidate(self, id: str, status: str, best: Mapping[str, float]) -> None:
        self._tell("rayopt_candidates", 1, status=status)
        for metric, value in best.items():
            self._tell("rayopt_best", value, metric=metric)
        self._then.candidate(id, status, best)

    def note(self, text: str) -> None:
        self._then.note(text)

    def measured(self, step: int, metrics: Mapping[str, float], training: str = "") -> bool:
        return self._then.measured(step, metrics, training)

    def _tell(self, name: str, value: float, **tags: str) -> None:
        self._waiting.append((name, value, {"run": self._run, **tags}))
        self._flush()

    def _flush(self) -> None:
        """Counts what waits, if Ray is there; never raises: a run is worth more than what is counted of it."""
        ray = sys.modules.get("ray")
        if ray is None or not ray.is_initialized():
            return
        waiting, self._waiting = self._waiting, []
        with contextlib.suppress(Exception):
            for one in waiting:
                self._record(*one)

    def _record(self, name: str, value: float, tags: dict[str, str]) -> None:
        from ray.util.metrics import Counter, Gauge

        if name not in self._metrics:
            kind = Counter if name in COUNTERS else Gauge
            said, keys = (COUNTERS | GAUGES)[name]
            self._metrics[name] = kind(name, description=said, tag_keys=keys)
        if name in COUNTERS:
            self._metrics[name].inc(value, tags=tags)
        else:
            self._metrics[name].set(value, tags=tags)
