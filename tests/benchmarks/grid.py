"""How long a grid search takes, as a ratio to scikit-learn's own on loky with all CPUs, interleaved in one run.

`warm`: a Ray runs already and both have their workers from an earlier search. `fresh`: a process of its own for every
figure, in which loky starts cold and no Ray runs; the time is from the call to the fitted result.
`make bench-grid` prints a table and a line of JSON; nothing here decides a test.
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
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
ROUNDS = {"quick": 7, "middle": 3, "prefix": 5}
TARGETS = {"warm": {"quick": 1.0, "middle": 1.0, "prefix": 0.28}, "fresh": {"quick": 0.5, "middle": 1.0, "prefix": 0.5}}


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


def theirs(name: str) -> tuple[float, Any, str]:
    from sklearn.model_selection import GridSearchCV

    estimator, grid, x, y = case(name)
    start = time.perf_counter()
    search = GridSearchCV(estimator, grid, cv=5, n_jobs=-1).fit(x, y)
    return time.perf_counter() - start, search, ""


def check_equal(one: Any, other: Any) -> None:
    """A ratio is of use only if both found the same."""
    for column in ("mean_test_score", "std_test_score", "rank_test_score"):
        if one.cv_results_[column].tolist() != other.cv_results_[column].tolist():
            raise SystemExit(f"{column} differs")


def warm(names: list[str]) -> dict[str, list[tuple[float, float, str]]]:
    import ray

    ray.init("local", log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    found = {}
    for name in names:
        while ours(name)[2].endswith(" 0 by workers"):  # until Tune's trials are there
            time.sleep(1)
        theirs(name)
        rows = []
        for number in range(ROUNDS[name]):
            pair: dict[str, tuple[float, Any, str]] = {}
            order: list[Callable[[str], tuple[float, Any, str]]] = [ours, theirs]
            for measure in order if number % 2 else order[::-1]:
                pair[measure.__name__] = measure(name)
            check_equal(pair["ours"][1], pair["theirs"][1])
            rows.append((pair["ours"][0], pair["theirs"][0], pair["ours"][2]))
        found[name] = rows
    ray.shutdown()
    return found


def fresh(names: list[str]) -> dict[str, list[tuple[float, float, str]]]:
    found = {}
    for name in names:
        rows = []
        for number in range(3):
            pair = {}
            order = ["ours", "theirs"]
            for which in order if number % 2 else order[::-1]:
                command = [sys.executable, __file__, "--one", which, name]
                environment = {**os.environ, "PYTHONPATH": str(ROOT)}
                done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
                pair[which] = json.loads(done.stdout.splitlines()[-1])
            rows.append((pair["ours"][0], pair["theirs"][0], pair["ours"][1]))
        found[name] = rows
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(ROUNDS))
    parser.add_argument("--one", choices=["ours", "theirs"])
    parser.add_argument("--only", choices=["warm", "fresh"])
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    if asked.one:
        seconds, _, by = {"ours": ours, "theirs": theirs}[asked.one](asked.names[0])
        print(json.dumps([seconds, by]))
        return
    rows = []
    for start, measure in (("warm", warm), ("fresh", fresh)):
        if asked.only in (None, start):
            for name, times in measure(asked.names).items():
                ratios = sorted(one / other for one, other, _ in times)
                rows.append(
                    {
                        "start": start,
                        "job": name,
                        "ratio": statistics.median(ratios),
                        "low": ratios[0],
                        "high": ratios[-1],
                        "target": TARGETS[start][name],
                        "n": len(ratios),
                        "ours_s": statistics.median(one for one, _, _ in times),
                        "loky_s": statistics.median(other for _, other, _ in times),
                        "by": times[-1][2],
                    }
                )
    print("start  job      ratio    low   high target  ours s  loky s  done")
    for row in rows:
        ratios = " ".join(f"{row[name]:6.2f}" for name in ("ratio", "low", "high", "target"))
        print(f"{row['start']:6} {row['job']:7} {ratios} {row['ours_s']:7.2f} {row['loky_s']:7.2f}  {row['by']}")
    print(json.dumps({"load": os.getloadavg()[0], "cpus": os.cpu_count(), "grid": rows}))


if __name__ == "__main__":
    main()
