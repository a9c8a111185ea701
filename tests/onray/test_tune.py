"""Ray Tune trials give the answers that scikit-learn gives, whatever becomes of their processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import psutil
import pytest
import ray
import yaml
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV, GroupKFold, PredefinedSplit
from sklearn.naive_bayes import GaussianNB

from rayopt import HyperparameterOptimizer, InputError, WorkError, api
from rayopt.onray import kept, tune
from rayopt.search import wrapped
from rayopt.search.runner import Means, Progress, Runner
from tests.search.estimators import Locked, Nearest
from tests.search.test_grid_equal import CASES, assert_equal, outcome

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(" " in sys.executable, reason="Ray Tune starts no worker whose path has a space"),
]

X = np.random.default_rng(0).normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int)
STRENGTHS = [0.5, 1.0, 2.0, 3.0]
ONE_FOLD = PredefinedSplit([-1, 0] * 30)


@pytest.fixture(scope="module", autouse=True)
def _nobody_waits(ray_session: str) -> Iterator[None]:
    """The crew that waits for the next search is sent home after these tests."""
    yield
    kept.dismiss()


class OnlyRay(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def on_ray(search: Any, x: Any, y: Any, deadline_s: float | None = None, **more: Any) -> tuple[Runner, list[str]]:
    """Fits a search with nothing evaluated in this process."""
    said = OnlyRay()
    means = Means(lambda wanted: tune.hire(None, wanted), ray_runs=True, deadline_s=deadline_s, cpus=0)
    runner = Runner(means, None, said)
    try:
        wrapped.fit(search, runner, x, y, **more)
    finally:
        runner.close()
    return runner, said.notes


@pytest.mark.parametrize(
    "name",
    ["knn", "groups", "several metrics", "fits that fail", "sparse", "table", "text labels", "costly pipeline",
     "halving", "weights within a pipeline", "metrics of a function"],
)  # fmt: skip
def test_the_answers_are_scikit_learns(name: str) -> None:
    make, (x, y), more = CASES[name]
    search, other = make(), make()
    got = outcome(search, lambda: on_ray(search, x, y, **more))
    assert_equal(search, other, got, outcome(other, lambda: other.fit(x, y, **more)))


def scores(found: Any) -> list[float]:
    return list(found.cv_results_["mean_test_score"])


def test_a_trial_whose_process_dies_changes_nothing(tmp_path: Path) -> None:
    expected = GridSearchCV(Nearest(), {"strength": STRENGTHS}, cv=ONE_FOLD).fit(X, Y)
    found = GridSearchCV(Nearest(how="die once", at=2.0, marks=str(tmp_path)), {"strength": STRENGTHS}, cv=ONE_FOLD)
    runner, notes = on_ray(found, X, Y)
    assert (tmp_path / "2.0").exists()
    assert scores(found) == scores(expected)
    assert found.best_params_ == expected.best_params_
    assert runner.evaluated == {"here": 0, "crews": 4, "cached": 0}
    assert "its process died" in " ".join(notes)


def test_what_always_kills_and_what_hangs_is_scored_by_error_score() -> None:
    killer = GridSearchCV(Nearest(how="die", at=1.0), {"strength": STRENGTHS}, cv=ONE_FOLD, error_score=-1.0)
    with pytest.warns(FitFailedWarning, match="its worker died twice"):
        on_ray(killer, X, Y)
    assert scores(killer)[1] == -1.0
    hanger = GridSearchCV(Nearest(how="hang", at=0.5), {"strength": STRENGTHS}, cv=ONE_FOLD, error_score=-1.0)
    with pytest.warns(FitFailedWarning, match="took longer than 1 s"):
        on_ray(hanger, X, Y, deadline_s=1.0)
    assert scores(hanger)[0] == -1.0
    expected = GridSearchCV(Nearest(), {"strength": STRENGTHS}, cv=ONE_FOLD).fit(X, Y)
    assert scores(hanger)[1:] == scores(expected)[1:]


def test_trials_killed_from_outside_lose_nothing() -> None:
    x, y = load_digits(return_X_y=True)
    grid = {"n_estimators": [40, 60], "max_depth": [4, None]}
    expected = GridSearchCV(RandomForestClassifier(random_state=0), grid, cv=3).fit(x, y)
    found = GridSearchCV(RandomForestClassifier(random_state=0), grid, cv=3)

    class Killing(OnlyRay):
        left = 2

        def cell_ended(self, *args: Any) -> None:
            if self.left:
                self.left -= 1
                os.kill(trials()[0], signal.SIGKILL)

    said = Killing()
    runner = Runner(Means(lambda wanted: tune.hire(None, wanted), ray_runs=True, cpus=0), None, said)
    wrapped.fit(found, runner, x, y)
    runner.close()
    assert said.notes
    assert scores(found) == scores(expected)
    assert found.best_params_ == expected.best_params_


def trials() -> list[int]:
    """The processes that trials run in."""
    found = []
    for one in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "ImplicitFunc" in " ".join(one.cmdline()):
                found.append(one.pid)
    return found


def test_from_python(ray_session: str) -> None:
    groups = np.arange(60) // 6
    grid = {"var_smoothing": [1e-9, 0.1]}
    optimizer = HyperparameterOptimizer(GaussianNB(), grid, cv=GroupKFold(3))
    found = optimizer.grid_search(X, Y, groups=groups)
    expected = GridSearchCV(GaussianNB(), grid, cv=GroupKFold(3)).fit(X, Y, groups=groups)
    assert found["best_params"] == expected.best_params_
    assert found["best_score"] == expected.best_score_
    assert scores(optimizer.search_) == scores(expected)
    assert sum(optimizer.evaluated_.values()) == 6
    alone = HyperparameterOptimizer(GaussianNB(), grid, cv=GroupKFold(3), backend="ray")
    assert alone.grid_search(X, Y, groups=groups)["best_score"] == expected.best_score_
    assert alone.evaluated_ == {"here": 0, "crews": 6, "cached": 0}
    assert sum(alone.evaluated_by_.values()) == 6
    with pytest.raises(InputError, match="the estimator: cannot be sent to another process"):
        HyperparameterOptimizer(Locked(), {"strength": [1.0]}).grid_search(X, Y)


OWN = """
import other_module
from sklearn.naive_bayes import GaussianNB

class Own(GaussianNB):
    def fit(self, X, y):
        import other_module
        self.var_smoothing_ = other_module.VALUE
        return super().fit(X, y)
"""


def test_a_job_with_modules_of_its_own(points: tuple[np.ndarray, np.ndarray], tmp_path: Path, ray_session: str) -> None:
    (tmp_path / "own_module.py").write_text(OWN)
    (tmp_path / "other_module.py").write_text("VALUE = 3\n")
    np.savez(tmp_path / "points.npz", x=points[0], y=points[1])
    job = {
        "kind": "search",
        "name": "own",
        "estimator": "own_module:Own",
        "data": {"source": "points.npz"},
        "grid": {"var_smoothing": [1e-9, 0.1, 1.0]},
        "cv": 2,
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    there = api.run(tmp_path / "job.yaml", tmp_path / "there", address=ray_session)
    here = api.run(tmp_path / "job.yaml", tmp_path / "here", address="inprocess", cache=tmp_path / "another")
    assert there["cells"]["crews"] == 6, "a user's own code is not run in the driver"
    for one in (*there["trials"], *here["trials"]):
        del one["seconds"]
    assert there["trials"] == here["trials"]
    assert [there[name] for name in ("best_params", "best_score")] == [
        here[name] for name in ("best_params", "best_score")
    ]


def test_a_crew_that_waits_leaves_when_others_need_its_place(
    small_job: Callable[..., Path], tmp_path: Path, ray_session: str
) -> None:
    search = GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 0.1]}, cv=2)
    with warnings.catch_warnings():
        on_ray(search, X, Y)
    assert api.run(small_job(), tmp_path / "out", address=ray_session)["status"] == "done"
    assert kept.take(tune.TuneCrew) is None


def test_a_crew_that_waits_serves_the_next_search_and_leaves_when_a_task_waits(ray_session: str) -> None:
    search = GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 0.1]}, cv=2)
    on_ray(search, X, Y)
    before = trials()
    on_ray(search, X, Y)
    assert trials() == before
    assert ray.get(ray.remote(num_cpus=2)(lambda: 3).remote(), timeout=60) == 3
    assert kept.take(tune.TuneCrew) is None


KILLED = """
import time
from pathlib import Path
from sklearn.naive_bayes import GaussianNB

class Noted(GaussianNB):
    def fit(self, X, y):
        time.sleep(0.1)
        super().fit(X, y)
        with (Path(__file__).parent / "fits").open("a") as file:
            file.write(f"{self.var_smoothing}\\n")
        return self
"""


def test_a_driver_killed_while_ray_evaluates_loses_and_repeats_nothing(
    points: tuple[np.ndarray, np.ndarray], tmp_path: Path, ray_session: str
) -> None:
    (tmp_path / "noted_module.py").write_text(KILLED)
    np.savez(tmp_path / "points.npz", x=points[0], y=points[1])
    smoothings = [10.0**-power for power in range(12)]
    job = {
        "kind": "search",
        "name": "noted",
        "estimator": "noted_module:Noted",
        "data": {"source": "points.npz"},
        "grid": {"var_smoothing": smoothings},
        "cv": 2,
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    program = str(Path(sys.executable).parent / "rayopt")
    command = [program, "run", str(tmp_path / "job.yaml"), "--out", str(tmp_path / "out"), "--address", ray_session]
    kept.dismiss()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    done = 0
    for line in process.stderr:
        done += " done: " in line
        if done == 4:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    finished = [json.loads(line) for line in (tmp_path / "out" / "outcomes.jsonl").read_text().splitlines()]
    assert 4 <= len(finished) < 12
    summary = api.run(tmp_path / "job.yaml", tmp_path / "out", address=ray_session)
    assert summary["cells"]["cached"] >= 2 * len(finished)
    assert summary["cells"]["here"] == 0
    assert sum(summary["cells"].values()) == 24
    fits = Counter(map(float, (tmp_path / "fits").read_text().split()))
    for one in finished:
        smoothing = one["params"]["var_smoothing"]
        refit = smoothing == summary["best_params"]["var_smoothing"]
        assert fits[smoothing] == 2 + refit, "what was finished is not evaluated again"
    expected = GridSearchCV(GaussianNB(), {"var_smoothing": smoothings}, cv=2).fit(*points)
    table = pandas.read_parquet(tmp_path / "out" / "cv_results.parquet")
    for column in ("mean_test_score", "std_test_score", "rank_test_score"):
        assert table[column].tolist() == expected.cv_results_[column].tolist()
    assert summary["best_params"] == expected.best_params_


def test_a_python_that_tune_cannot_start_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/my projects/.venv/bin/python")
    with pytest.raises(WorkError, match="its path has a space"):
        tune.hire(None)


ENDED = """
import threading, time
import numpy, ray
from sklearn.naive_bayes import GaussianNB
from rayopt import HyperparameterOptimizer

x = numpy.random.default_rng(0).normal(size=(60, 4))
grid = {"var_smoothing": [1e-9, 0.1]}
for _ in range(2):
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    search = HyperparameterOptimizer(GaussianNB(), grid, cv=3, backend="ray")
    search.grid_search(x, x[:, 0] > 0)
    print(search.evaluated_["crews"])
    ray.shutdown()
until = time.monotonic() + 2
while time.monotonic() < until and not ray.is_initialized():
    time.sleep(0.1)
print(ray.is_initialized(), [one.name for one in threading.enumerate() if one.name != "MainThread"])
"""


def test_a_crew_that_waits_starts_no_ray_when_the_callers_is_ended() -> None:
    done = subprocess.run([sys.executable, "-c", ENDED], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == ["6", "6", "False []", ""]


OVER = """
import threading, time
import numpy, ray
from sklearn.naive_bayes import GaussianNB
from rayopt import HyperparameterOptimizer

if {address!r} is None:
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
nodes = ray.nodes
ray.nodes = lambda: [time.sleep(2), nodes()][1]
x = numpy.random.default_rng(0).normal(size=(60, 4))
search = HyperparameterOptimizer(GaussianNB(), {{"var_smoothing": [1e-9, 0.1]}}, cv=3, address={address!r})
search.grid_search(x, x[:, 0] > 0)
print(search.evaluated_)
ray.shutdown()
print(ray.is_initialized(), [one.name for one in threading.enumerate() if one.name != "MainThread"])
"""


@pytest.mark.parametrize("joins", [True, False])
def test_a_search_that_is_over_before_ray_has_answered_leaves_no_call_behind(joins: bool, ray_session: str) -> None:
    """On the caller's own Ray, which is ended at once, and at an address."""
    program = OVER.format(address=ray_session if joins else None)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == ["{'here': 6, 'crews': 0, 'cached': 0}", "False []", ""]
    assert "GCS" not in done.stderr
