"""Objectives and bounds of estimator searches: scikit-learn's results, ranked by what the job says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from rayopt import HyperparameterOptimizer, InputError, WorkError, api

GRID = {"C": [0.001, 0.01, 0.1, 1.0, 10.0], "class_weight": [None, "balanced"], "kernel": ["rbf", "linear"]}
METRICS = ["accuracy", "recall"]
GOALS = [{"metric": "accuracy"}, {"metric": "recall"}]


@pytest.fixture
def skewed() -> tuple[np.ndarray, np.ndarray]:
    """Rows of which one in four is of the class that is looked for, with some that look like the other."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=(160, 3))
    return x, (x[:, 0] + generator.normal(scale=0.9, size=160) > 0.9).astype(int)


@pytest.fixture
def job(tmp_path: Path, skewed: tuple[np.ndarray, np.ndarray]) -> Callable[..., Path]:
    def write(**fields: Any) -> Path:
        np.savez(tmp_path / "rows.npz", x=skewed[0], y=skewed[1])
        given = {
            "kind": "search",
            "name": "aims",
            "estimator": "sklearn.svm:SVC",
            "data": {"source": "rows.npz"},
            "grid": GRID,
            "cv": 4,
            "scoring": METRICS,
            **fields,
        }
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump({name: value for name, value in given.items() if value is not None}))
        return path

    return write


@pytest.fixture
def expected(skewed: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    found: dict[str, Any] = GridSearchCV(SVC(), GRID, cv=4, scoring=METRICS, refit=False).fit(*skewed).cv_results_
    return found


def run(path: Path, out: Path) -> dict[str, Any]:
    return api.run(path, out, address="inprocess")


def test_the_front_of_a_grid(job: Callable[..., Path], expected: dict[str, Any], tmp_path: Path) -> None:
    points = np.stack([expected[f"mean_test_{name}"] for name in METRICS], axis=1)
    beaten = [any((other >= one).all() and (other > one).any() for other in points) for one in points]
    summary = run(job(objective=GOALS), tmp_path / "out")
    by_id = {trial["id"]: trial for trial in summary["trials"]}
    front = sorted(by_id[id]["number"] - 1 for id in summary["front"])
    kept = list(np.flatnonzero(~np.array(beaten)))
    assert 1 < len(kept) < len(points)
    assert {tuple(points[index]) for index in front} == {tuple(points[index]) for index in kept}
    assert summary["hypervolume"]["above"] == {name: points[:, at].min() for at, name in enumerate(METRICS)}
    assert summary["best_score"] == points[:, 0].max()
    assert summary["metric"] == "accuracy"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "on the front" in page
    assert (tmp_path / "out" / summary["path"] / "estimator.json").is_file()


def test_a_bound_decides_what_may_be_best(job: Callable[..., Path], expected: dict[str, Any], tmp_path: Path) -> None:
    recalls, accuracies = expected["mean_test_recall"], expected["mean_test_accuracy"]
    least = float(np.median(recalls))
    best = max(accuracy for accuracy, recall in zip(accuracies, recalls, strict=True) if recall >= least)
    assert best < accuracies.max(), "the bound must matter"
    summary = run(job(objective="accuracy", constraints={"recall": {"at_least": least}}), tmp_path / "out")
    assert summary["best_score"] == best
    assert [trial["allowed"] for trial in summary["trials"]].count(False) == int((recalls < least).sum())
    assert all((trial["rank"] is None) == (not trial["allowed"]) for trial in summary["trials"])
    with pytest.raises(WorkError, match=r"none of 20 trials keeps recall \{'at_least': 2.0\}"):
        run(job(objective="accuracy", constraints={"recall": {"at_least": 2.0}}), tmp_path / "none")


@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize(
    "fields",
    [{"objective": "accuracy", "direction": "min"}, {"constraints": {"accuracy": {"at_most": 0.78}}}],
    ids=["least", "bounded"],
)
def test_the_aim_decides_without_a_refit_too(
    job: Callable[..., Path], fields: dict[str, Any], refit: bool, tmp_path: Path
) -> None:
    summary = run(job(grid={"C": [10.0, 0.001, 0.1]}, scoring="accuracy", refit=refit, **fields), tmp_path / "out")
    trials = summary["trials"]
    assert [one["rank"] for one in trials] == sorted((one["rank"] for one in trials), key=lambda rank: rank or 99)
    assert trials[0]["allowed"]
    assert summary["best_params"] == trials[0]["params"]
    assert min(one["score"] for one in trials) < max(one["score"] for one in trials)


def test_seconds_may_be_an_objective_and_a_bound(job: Callable[..., Path], tmp_path: Path) -> None:
    summary = run(
        job(objective=[{"metric": "score_time", "direction": "min"}, {"metric": "recall"}],
            constraints={"fit_time": {"at_most": 60}}, test=0.2),
        tmp_path / "out",
    )  # fmt: skip
    times = [trial["score"] for trial in summary["trials"]]
    assert times == sorted(times)
    assert summary["direction"] == "min"
    assert 0 <= summary["test"]["score"] <= 1, "the rows put aside are graded by a score"


def test_a_strategy_is_told_of_bounds_and_further_objectives(job: Callable[..., Path], tmp_path: Path) -> None:
    space = {"C": {"low": 0.001, "high": 100, "log": True}, "class_weight": [None, "balanced"]}
    path = job(
        grid=None, space=space, strategy="bayes", n_trials=14, parallel=2,
        objective=GOALS, constraints={"recall": {"at_least": 0.2}},
    )  # fmt: skip
    summary = run(path, tmp_path / "out")
    assert len(summary["trials"]) == 14
    assert all(trial["metrics"]["recall"] >= 0.2 for trial in summary["trials"] if trial["allowed"])
    assert set(summary["front"]) <= {trial["id"] for trial in summary["trials"] if trial["allowed"]}
    assert summary["hypervolume"]["value"] >= 0


@pytest.mark.parametrize(
    ("fields", "place", "problem"),
    [
        ({"objective": "recal"}, "objective", "'recal' is not measured"),
        (
            {"objective": "recall", "constraints": {"latency": {"at_most": 1}}},
            "constraints",
            "'latency' is not measured",
        ),
        ({"objective": "recall", "constraints": {"recall": {}}}, "constraints", "bounds nothing"),
        ({"objective": GOALS, "direction": "min"}, "direction", "is one for several objectives"),
        ({"direction": "min", "refit": "recall"}, "direction", "is of no objective"),
        ({"objective": "recall", "refit": "recall"}, "refit", "names a metric beside `objective:`"),
        ({"objective": "recall", "strategy": "halving"}, "strategy", "`halving` decides by one score"),
        ({"objective": "recall", "early_stop": {}}, "early_stop", "is for searches of a `job:`"),
    ],
)
def test_what_is_wrong_with_them(
    job: Callable[..., Path], tmp_path: Path, fields: dict[str, Any], place: str, problem: str
) -> None:
    with pytest.raises(InputError) as caught:
        run(job(**fields), tmp_path / "out")
    assert any(place in fault.place and problem in fault.problem for fault in caught.value.faults), caught.value


RAISING = """
def absurd(estimator, x, y):
    raise RuntimeError("the scorer of the tests cannot score")

def picky(estimator, x, y):
    if estimator.C > 1:
        raise RuntimeError("too large for the scorer")
    return 0.5
"""


def test_a_scorer_that_raises_is_named_with_its_reason(job: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "raising_scorers.py").write_text(RAISING)
    with pytest.raises(WorkError, match=r"no candidate has a score: .*the scorer of the tests cannot score"):
        run(job(scoring="raising_scorers:absurd"), tmp_path / "all")
    summary = run(job(scoring="raising_scorers:picky"), tmp_path / "some")
    lost = [trial for trial in summary["trials"] if trial["params"]["C"] > 1]
    assert len(lost) == 4
    assert all("too large for the scorer" in trial["reason"] for trial in lost)
    assert {trial["reason"] for trial in summary["trials"] if trial["params"]["C"] <= 1} == {""}


def test_halving_from_python_takes_groups(skewed: tuple[np.ndarray, np.ndarray]) -> None:
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.model_selection import GroupKFold, HalvingGridSearchCV

    groups, grid = np.arange(160) // 8, {"C": [0.1, 1.0, 10.0]}
    found = HyperparameterOptimizer(SVC(), grid, cv=GroupKFold(4), backend="local")
    found.halving_search(*skewed, groups=groups, min_resources=40)
    other = HalvingGridSearchCV(SVC(), grid, cv=GroupKFold(4), random_state=0, min_resources=40)
    other.fit(*skewed, groups=groups)
    assert found.search_.best_params_ == other.best_params_
    np.testing.assert_array_equal(found.search_.cv_results_["mean_test_score"], other.cv_results_["mean_test_score"])


def test_a_run_is_resumed_only_where_there_is_one(job: Callable[..., Path], tmp_path: Path) -> None:
    path = job(scoring="accuracy")
    with pytest.raises(InputError, match="holds no run to go on with"):
        api.run(path, tmp_path / "out", address="inprocess", resume=True)
    assert not (tmp_path / "out").exists()
    run(path, tmp_path / "out")
    again = api.run(path, tmp_path / "out", address="inprocess", resume=True)
    assert again["cells"]["cached"] == sum(again["cells"].values())
