"""How long a grid search takes, as a ratio to scikit-learn's own on loky with all CPUs, interleaved in one run.

`warm`: a Ray runs already and both have their workers from an earlier search. `fresh`: a process of its own for every
figure, in which loky starts cold and no Ray runs; the time is from the call to the fitted result. `cpu` is the ratio of
the CPU seconds of all processes, which other load on the machine changes less. `driver` is what the driver's process
computes for each of many candidates that cost nothing. A job ends after BUDGET_S with the pairs that it has by then.
`--short` takes one pair of each. `make bench-grid` prints a table and a line of JSON; nothing here decides a test.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from grid_driver import CANDIDATES, FLAT, averaged, flatness
from grid_driver import shown as driver_told

ROOT = Path(__file__).parent.parent.parent
BUDGET_S = 240.0  # for one job of one start
JOIN_S = 30.0  # for Tune's trials to be there
ROUNDS = {"quick": 7, "middle": 5, "prefix": 5}
TARGETS = {"warm": {"quick": 1.0, "middle": 1.0, "prefix": 0.28}, "fresh": {"quick": 0.5, "middle": 1.0, "prefix": 0.5}}
COMPARED = ("mean_test_score", "std_test_score", "rank_test_score")


@dataclass(frozen=True)
class Pair:
    """Seconds by the clock and by the CPUs, ours and loky's, and who did how many cells of ours."""

    ours_s: float
    loky_s: float
    ours_cpu_s: float
    loky_cpu_s: float
    by: str


@dataclass(frozen=True)
class Measured:
    seconds: float
    cpu_s: float
    scores: dict[str, list[float]]
    by: str


def case(name: str) -> tuple[Any, dict[str, list[Any]], Any, Any]:
    """Estimator, grid and data."""
    from sklearn.datasets import load_breast_cancer, load_digits

    if name == "quick":
        from sklearn.neighbors import KNeighborsClassifier

        grid: dict[str, list[Any]] = {"n_neighbors": list(range(1, 21)), "weights": ["uniform", "distance"]}
        return KNeighborsClassifier(), grid, *load_breast_cancer(return_X_y=True)
    if name == "middle":
        from sklearn.ensemble import RandomForestClassifier

        grid = {"n_estimators": [20, 50, 100], "max_depth": [None, 8], "max_features": ["sqrt", 0.3],
                "min_samples_leaf": [1, 2]}  # fmt: skip
        return RandomForestClassifier(random_state=0), grid, *load_digits(return_X_y=True)
    from sklearn.feature_selection import SelectKBest, mutual_info_classif
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    select = SelectKBest(functools.partial(mutual_info_classif, random_state=0), k=15)
    grid = {"svc__C": [0.1, 1, 10, 100, 1000], "svc__gamma": [0.001, 0.003, 0.01, 0.03]}
    return make_pipeline(StandardScaler(), select, SVC()), grid, *load_breast_cancer(return_X_y=True)


def ours(name: str) -> tuple[float, Any, str]:
    """Seconds, results, and who did how many cells."""
    from rayopt import HyperparameterOptimizer

    estimator, grid, x, y = case(name)
    start = time.perf_counter()
    optimizer = HyperparameterOptimizer(estimator, grid, cv=5)
    optimizer.grid_search(x, y)
    seconds = time.perf_counter() - start
    done = optimizer.evaluated_
    return seconds, optimizer.search_, f"{done['here']} here, {done['crews']} by workers"


def theirs(name: str, memory: bool = False) -> tuple[float, Any, str]:
    """The same on loky; with `memory` the steps of a pipeline are kept in a folder, by its own means."""
    from sklearn.model_selection import GridSearchCV

    estimator, grid, x, y = case(name)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        if memory:
            estimator.set_params(memory=folder)
        search = GridSearchCV(estimator, grid, cv=5, n_jobs=-1).fit(x, y)
        seconds = time.perf_counter() - start
    return seconds, search, ""


def scores(search: Any) -> dict[str, list[float]]:
    return {name: search.cv_results_[name].tolist() for name in COMPARED}


def check_equal(one: dict[str, list[float]], other: dict[str, list[float]]) -> None:
    """A ratio is of use only if both found the same."""
    for name in COMPARED:
        if one[name] != other[name]:
            raise SystemExit(f"{name} differs")


def warm(names: Iterable[str]) -> Iterable[tuple[str, list[Pair]]]:
    import ray

    os.environ.setdefault("RAY_worker_niceness", "0")  # other load on the machine is to weigh on both alike
    ray.init("local", log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    try:
        for name in names:
            until = time.monotonic() + JOIN_S
            while ours(name)[2].endswith(" 0 by workers") and time.monotonic() < until:
                time.sleep(1)
            theirs(name)
            if name == "prefix":
                alone_s, kept_s = theirs(name)[0], theirs(name, memory=True)[0]
                print(f"loky with Pipeline(memory=): {kept_s / alone_s:.2f} of loky ({kept_s:.2f} s, n=1)", flush=True)
            yield name, pairs(name, _measured)
    finally:
        ray.shutdown()


def fresh(names: Iterable[str]) -> Iterable[tuple[str, list[Pair]]]:
    for name in names:
        yield name, pairs(name, _measured_alone)


def pairs(name: str, measure: Callable[[str, str], Measured]) -> list[Pair]:
    """Ours and theirs in turns, as often as the budget allows and once at least."""
    rows: list[Pair] = []
    until = time.monotonic() + BUDGET_S
    for number in range(ROUNDS[name]):
        order = ["ours", "theirs"]
        got = {which: measure(which, name) for which in (order if number % 2 else order[::-1])}
        mine, other = got["ours"], got["theirs"]
        check_equal(mine.scores, other.scores)
        rows.append(Pair(mine.seconds, other.seconds, mine.cpu_s, other.cpu_s, mine.by))
        if time.monotonic() > until:
            break
    return rows


def _measured(which: str, name: str) -> Measured:
    before = cpu_seconds()
    seconds, search, by = {"ours": ours, "theirs": theirs}[which](name)
    return Measured(seconds, cpu_seconds() - before, scores(search), by)


def _measured_alone(which: str, name: str) -> Measured:
    command = [sys.executable, __file__, "--one", which, name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before = os.times()
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=10 * BUDGET_S)
    after = os.times()
    seconds, by, found = json.loads(done.stdout.splitlines()[-1])
    cpu_s = after.children_user - before.children_user + after.children_system - before.children_system
    return Measured(seconds, cpu_s, found, by)


def cpu_seconds() -> float:
    """What this process and all below it have computed."""
    total = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(ROUNDS))
    parser.add_argument("--one", choices=["ours", "theirs"])
    parser.add_argument("--only", choices=["warm", "fresh", "driver"])
    parser.add_argument("--short", action="store_true", help="one pair of each job, and no ten thousand candidates")
    asked = parser.parse_args()
    if asked.short:
        ROUNDS.update(dict.fromkeys(ROUNDS, 1))
    warnings.simplefilter("ignore")
    if asked.one:
        seconds, search, by = {"ours": ours, "theirs": theirs}[asked.one](asked.names[0])
        print(json.dumps([seconds, by, scores(search)]))
        return
    rows = []
    print("start  job      ratio    low   high target    cpu  n  ours s  loky s           done", flush=True)
    for start, measure in (("warm", warm), ("fresh", fresh)):
        if asked.only in (None, start):
            for name, times in measure(asked.names):
                rows.append(summed_up(start, name, times))
                print(shown(rows[-1]), flush=True)
    most = CANDIDATES[-2] if asked.short else CANDIDATES[-1]
    per_candidate = averaged(most) if asked.only in (None, "driver") else []
    for row in per_candidate:
        print(driver_told(row))
    found = {"load": os.getloadavg()[0], "cpus": os.cpu_count(), "grid": rows, "driver": per_candidate}
    if len(per_candidate) > 1:
        found["flatness"] = flatness(per_candidate)
        said = "reached" if found["flatness"] <= FLAT else "MISSED"
        print(f"driver, most candidates to fewest: {found['flatness']:.2f} (at most {FLAT:g}) {said}")
    print(json.dumps(found))


def summed_up(start: str, name: str, times: list[Pair]) -> dict[str, Any]:
    ratios = sorted(pair.ours_s / pair.loky_s for pair in times)
    return {
        "start": start,
        "job": name,
        "ratio": statistics.median(ratios),
        "low": ratios[0],
        "high": ratios[-1],
        "target": TARGETS[start][name],
        "cpu": statistics.median(pair.ours_cpu_s / pair.loky_cpu_s for pair in times),
        "n": len(times),
        "ours_s": statistics.median(pair.ours_s for pair in times),
        "loky_s": statistics.median(pair.loky_s for pair in times),
        "by": times[-1].by,
    }


def shown(row: dict[str, Any]) -> str:
    ratios = " ".join(f"{row[name]:6.2f}" for name in ("ratio", "low", "high", "target", "cpu"))
    times = f"{row['ours_s']:7.2f} {row['loky_s']:7.2f}"
    said = "reached" if row["ratio"] <= row["target"] else "MISSED"
    return f"{row['start']:6} {row['job']:7} {ratios} {row['n']:2} {times}  {said:7}  {row['by']}"


if __name__ == "__main__":
    main()
