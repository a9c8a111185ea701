"""What the driver of a grid search computes for each of many candidates that cost nothing."""

from __future__ import annotations

import statistics
import tempfile
import time
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

CANDIDATES = (100, 1_000, 10_000)
TURNS = (100, 100, 100, 1_000, 100, 10_000, 100, 1_000, 100, 100, 100)  # a machine's speed changes within minutes
KEPT_COUNT = 1_000  # candidates up to which results are kept too: writing them waits for the disk
FLAT = 1.2  # what the time for a candidate may grow by from the fewest to the most
CREW = 2
WAYS = ("ours", "kept", "crew")


class Free(ClassifierMixin, BaseEstimator):
    """An estimator that costs nothing."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def fit(self, X: Any, y: Any) -> Free:
        self.classes_ = np.array([0, 1])
        return self

    def predict(self, X: Any) -> Any:
        return np.zeros(len(X), dtype=int)


def flatness(rows: list[dict[str, float]]) -> float:
    """The driver's time for a candidate among the most of them, to that among the fewest; the worst way of ours."""
    ratios = []
    for way in WAYS:
        times = [row[f"{way}_ms"] for row in rows if f"{way}_ms" in row]
        ratios.append(times[-1] / times[0])
    return max(ratios)


def averaged(most: int) -> list[dict[str, float]]:
    """What `driver` finds, averaged over its turns, for each count of candidates up to `most`."""
    found: dict[int, list[dict[str, float]]] = {count: [] for count in CANDIDATES if count <= most}
    for count in TURNS:
        if count in found:
            found[count].append(driver(count))
    return [{name: statistics.fmean(row[name] for row in rows) for name in rows[0]} for rows in found.values()]


def shown(row: dict[str, float]) -> str:
    times = ", ".join(f"{row[f'{way}_ms']:.2f} {way}" for way in (*WAYS, "theirs") if f"{way}_ms" in row)
    return f"driver, {row['candidates']:6,.0f} candidates, ms each: {times}"


def driver(count: int) -> dict[str, float]:
    """CPU ms of the driver for each of `count` candidates on two folds.

    ours: evaluated in this process; kept: in this process, with every result kept; crew: by child processes, as by a
    Ray's trials but for what Ray takes; theirs: scikit-learn's own, in this process.
    """
    from sklearn.model_selection import GridSearchCV

    from rayopt.runs.cache import Cache
    from rayopt.search import wrapped
    from rayopt.search.processes import Processes
    from rayopt.search.runner import Means, Runner
    from rayopt.search.store import CachedCells

    x, y = np.zeros((20, 1)), np.arange(20) % 2
    found = {"candidates": float(count)}
    here = Means(in_process=True)
    with tempfile.TemporaryDirectory() as folder:
        runners = {
            "ours": lambda: Runner(here),
            "kept": lambda: Runner(here, CachedCells(Cache(folder), "")),
            "crew": lambda: Runner(Means(lambda is_wanted: Processes(CREW), ray_runs=True, ray_alone=True)),
        }
        if count > KEPT_COUNT:
            del runners["kept"]
        for which in (*runners, "theirs"):
            search = GridSearchCV(Free(), {"number": list(range(count))}, cv=2)
            start = time.process_time()
            if which in runners:
                runner = runners[which]()
                wrapped.fit(search, runner, x, y)
                runner.close()
            else:
                search.fit(x, y)
            found[f"{which}_ms"] = (time.process_time() - start) * 1e3 / count
    return found
