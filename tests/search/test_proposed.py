"""Estimators with several candidates in flight: for those that were asked the results are scikit-learn's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import yaml
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from rayopt import api
from rayopt.errors import InputError
from rayopt.search.space import Space
from rayopt.search.suggest import Problem, suggest

PROGRAM = str(Path(sys.executable).parent / "rayopt")
SPACE = {"C": {"low": 0.01, "high": 100, "log": True}, "kernel": ["rbf", "linear"]}


@pytest.fixture
def job(tmp_path: Path, points: tuple[np.ndarray, np.ndarray]) -> Callable[..., Path]:
    def write(**fields: Any) -> Path:
        np.savez(tmp_path / "points.npz", x=points[0], y=points[1])
        given = {
            "kind": "search",
            "name": "flying",
            "estimator": "sklearn.svm:SVC",
            "data": {"source": "points.npz"},
            "space": SPACE,
            "strategy": "bayes",
            "n_trials": 9,
            "parallel": 3,
            "cv": 3,
            **fields,
        }
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(given))
        return path

    return write


def run(path: Path, out: Path) -> dict[str, Any]:
    return api.run(path, out, address="inprocess")


def events(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "observations.jsonl").read_text().splitlines()]


def test_results_and_ranks_are_scikit_learns(
    job: Callable[..., Path], points: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    path = job(scoring=["accuracy", "f1"], refit="f1", return_train_score=True)
    summary = run(path, tmp_path / "out")
    asked = [one["params"] for one in events(tmp_path / "out") if one["event"] == "asked"]
    assert len(asked) == 9
    grid = [{name: [value] for name, value in params.items()} for params in asked]
    own = GridSearchCV(SVC(random_state=0), grid, cv=3, scoring=["accuracy", "f1"], refit="f1", return_train_score=True)
    expected = own.fit(*points).cv_results_
    table = pandas.read_parquet(tmp_path / "out" / "cv_results.parquet")
    assert [json.loads(one) for one in table["params"]] == expected["params"]
    for name in expected:
        if "test_" in name or "train_" in name:
            assert table[name].tolist() == expected[name].tolist(), name
    assert summary["best_params"] == own.best_params_
    assert summary["best_score"] == own.best_score_
    told = {json.dumps(one["params"]): one["value"] for one in events(tmp_path / "out") if one["event"] == "told"}
    means = zip(expected["params"], expected["mean_test_f1"], strict=True)
    assert told == pytest.approx({json.dumps(params): value for params, value in means})


def test_three_are_in_flight_and_each_is_replaced_at_once(job: Callable[..., Path], tmp_path: Path) -> None:
    run(job(), tmp_path / "out")
    flying, seen = 0, []
    for one in events(tmp_path / "out"):
        flying += {"asked": 1, "told": -1}.get(one["event"], 0)
        seen.append(flying)
    assert max(seen) == 3
    assert seen[1:-3] == [1, 2, *[3, 2] * 6, 3][: len(seen) - 4]


def test_fits_that_fail_are_learnt_around(job: Callable[..., Path], tmp_path: Path) -> None:
    space = {"C": {"low": -1, "high": 10}}
    summary = run(job(space=space, n_trials=12), tmp_path / "out")
    failed = [one for one in events(tmp_path / "out") if one["event"] == "told" and one["value"] is None]
    assert failed
    assert all("must be a float" in one["reason"] for one in failed)
    assert summary["best_params"]["C"] > 0


def test_a_first_candidate_that_fails_ends_no_search(job: Callable[..., Path], tmp_path: Path) -> None:
    """Alone in scikit-learn's first round, it would be all fits."""
    first = next(one for one in range(20) if _first_c(one) < 0)
    summary = run(job(space={"C": {"low": -10, "high": 10}}, parallel=1, n_trials=6, seed=first), tmp_path / "out")
    assert events(tmp_path / "out")[2]["value"] is None
    assert summary["best_params"]["C"] > 0


def _first_c(seed: int) -> float:
    space = {"C": {"low": -10, "high": 10}}
    return float(suggest(Space.from_settings(space), [], [], seed, Problem())["C"])


def test_a_killed_search_goes_on_from_its_journal(
    job: Callable[..., Path], tmp_path: Path, killed_after: Callable[[list[str], int], None]
) -> None:
    path, out = job(n_trials=12), tmp_path / "out"
    command = [PROGRAM, "run", str(path), "--out", str(out), "--address", "inprocess"]
    killed_after(command, 4)
    before = [one for one in events(out) if one["event"] == "told"]
    assert 3 <= len(before) < 12  # the last one may have been told of before it was written down
    summary = run(path, out)
    told = [one for one in events(out) if one["event"] == "told"]
    assert told[: len(before)] == before
    assert len({json.dumps(one["params"]) for one in told}) == len(told) == 12
    assert len(summary["trials"]) == 12
    assert summary["cells"]["cached"] >= 3 * len(before)
    lines = [json.loads(line)["id"] for line in (out / "outcomes.jsonl").read_text().splitlines()]
    assert len(lines) == len(set(lines)) == 12


def test_it_stops_and_starts_warm(job: Callable[..., Path], tmp_path: Path) -> None:
    first = run(job(stop={"target": 0.5}), tmp_path / "first")
    assert first["stopped"] == "the target 0.5 is reached"
    assert len(first["trials"]) < 9
    whole = run(job(), tmp_path / "whole")
    warm = run(job(n_trials=3, warm_start=str(tmp_path / "whole")), tmp_path / "warm")
    assert (warm["warm_start"], len(warm["trials"])) == (9, 3)
    known = [one["params"] for one in whole["trials"]]
    assert not any(one["params"] in known for one in warm["trials"])
    assert set(whole["importance"]) == {"C", "kernel"}
    with pytest.raises(InputError, match="has values of score"):
        run(job(scoring="f1", warm_start=str(tmp_path / "whole")), tmp_path / "other")


def test_nothing_to_evaluate_is_said(job: Callable[..., Path], tmp_path: Path) -> None:
    choices = {"kernel": ["rbf", "linear"]}
    first = run(job(space=choices, n_trials=2, parallel=1), tmp_path / "first")
    assert len(first["trials"]) == 2
    with pytest.raises(InputError, match=r"^warm_start: has every point of this space; leave it out, or widen"):
        run(job(space=choices, warm_start=str(tmp_path / "first")), tmp_path / "warm")
    with pytest.raises(InputError, match=r"^stop: 1e-09 s have passed before anything was evaluated"):
        run(job(space=choices, stop={"time_s": 1e-9}), tmp_path / "late")
