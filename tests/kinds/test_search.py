"""Search jobs: scikit-learn's answers in the run folder, every fault of a job told, nothing finished lost."""

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
from click.testing import CliRunner
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from rayopt import api
from rayopt.cli.commands import cli
from rayopt.errors import InputError, WorkError

PROGRAM = str(Path(sys.executable).parent / "rayopt")
GRID = {"C": [0.1, 1.0, 10.0], "gamma": [0.1, 0.5]}

SLOW = """
import time
from sklearn.naive_bayes import GaussianNB

class Slow(GaussianNB):
    def fit(self, X, y):
        time.sleep(0.15)
        return super().fit(X, y)

def build(**args):
    return Slow(**args)

def no_estimator():
    return 3

def half(estimator, X, y):
    return 0.5
"""


@pytest.fixture
def search_job(tmp_path: Path, points: tuple[np.ndarray, np.ndarray]) -> Callable[..., Path]:
    """Writes a quick search job with its data beside it; keyword arguments replace its fields, None drops them."""

    def write(**fields: Any) -> Path:
        place = tmp_path / "job"
        place.mkdir(exist_ok=True)
        np.savez(place / "points.npz", x=points[0], y=points[1])
        (place / "slow_model.py").write_text(SLOW)
        job = {
            "kind": "search",
            "name": "small",
            "estimator": "sklearn.svm:SVC",
            "data": {"source": "points.npz"},
            "grid": GRID,
            "cv": 3,
            **fields,
        }
        path = place / "job.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in job.items() if value is not None}))
        return path

    return write


def run(job: Path, out: Path) -> dict[str, Any]:
    return api.run(job, out, address="inprocess")


def test_a_grid_has_scikit_learns_answers(
    search_job: Callable[..., Path], points: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    summary = run(search_job(), tmp_path / "out")
    expected = GridSearchCV(SVC(random_state=0), GRID, cv=3).fit(*points)
    assert summary["best_params"] == expected.best_params_
    assert summary["best_score"] == expected.best_score_
    assert summary["status"] == "done"
    table = pandas.read_parquet(tmp_path / "out" / "cv_results.parquet")
    text = pandas.read_csv(tmp_path / "out" / "cv_results.csv")
    for column in ("mean_test_score", "std_test_score", "split2_test_score", "rank_test_score"):
        assert table[column].tolist() == expected.cv_results_[column].tolist()
        assert text[column].tolist() == pytest.approx(expected.cv_results_[column].tolist(), rel=1e-12)
    assert [json.loads(one) for one in table["params"]] == expected.cv_results_["params"]
    assert sorted(trial["rank"] for trial in summary["trials"]) == sorted(expected.cv_results_["rank_test_score"])
    lines = [json.loads(line) for line in (tmp_path / "out" / "outcomes.jsonl").read_text().splitlines()]
    assert [line["params"] for line in lines] == expected.cv_results_["params"]
    assert [line["score"] for line in lines] == pytest.approx(expected.cv_results_["mean_test_score"].tolist())


def test_what_the_best_is_made_again_from_is_no_pickle(search_job: Callable[..., Path], tmp_path: Path) -> None:
    summary = run(search_job(), tmp_path / "out")
    files = {path.name for path in (tmp_path / "out" / summary["path"]).iterdir()}
    assert files == {"certificate.json", "estimator.json", "estimator.skops"}
    made = json.loads((tmp_path / "out" / summary["path"] / "estimator.json").read_text())
    assert made == {"estimator": "sklearn.svm:SVC", "params": summary["best_params"], "seed": 0}


def test_a_pipeline_several_metrics_and_a_splitter(
    search_job: Callable[..., Path], points: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    grid = {"svc__C": [0.1, 1.0], "standardscaler__with_mean": [True, False]}
    job = search_job(
        estimator=["sklearn.preprocessing:StandardScaler", {"use": "sklearn.svm:SVC", "args": {"kernel": "linear"}}],
        grid=grid,
        cv={"use": "sklearn.model_selection:StratifiedKFold", "args": {"n_splits": 4}},
        scoring=["accuracy", "f1"],
        refit="f1",
        return_train_score=True,
    )
    summary = run(job, tmp_path / "out")
    pipeline = make_pipeline(StandardScaler(), SVC(kernel="linear", random_state=0))
    expected = GridSearchCV(pipeline, grid, cv=StratifiedKFold(4), scoring=["accuracy", "f1"], refit="f1").fit(*points)
    assert (summary["best_params"], summary["best_score"]) == (expected.best_params_, expected.best_score_)
    assert summary["metric"] == "f1"
    assert "mean_train_accuracy" in pandas.read_csv(tmp_path / "out" / "cv_results.csv").columns


def test_random_and_halving(
    search_job: Callable[..., Path], points: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    summary = run(search_job(strategy="random", n_trials=3, seed=4), tmp_path / "random")
    expected = RandomizedSearchCV(SVC(random_state=4), GRID, n_iter=3, random_state=4, cv=3).fit(*points)
    assert summary["trials"][0]["params"] == expected.best_params_
    assert summary["best_score"] == expected.best_score_
    halved = run(search_job(strategy="halving", halving={"min_resources": 20}), tmp_path / "halving")
    assert {one["resources"] for one in halved["trials"]} == {20, 60}
    assert halved["best_params"] == halved["trials"][0]["params"]


def test_rows_that_are_put_aside_take_no_part(search_job: Callable[..., Path], tmp_path: Path) -> None:
    summary = run(search_job(test=0.25), tmp_path / "out")
    assert (summary["rows"], summary["test"]["n"]) == (90, 30)
    assert 0.5 < summary["test"]["score"] <= 1


def test_a_users_own_estimator_and_scorer(search_job: Callable[..., Path], tmp_path: Path) -> None:
    job = search_job(estimator="slow_model:build", grid={"var_smoothing": [1e-9, 0.1]}, scoring="slow_model:half", cv=2)
    assert run(job, tmp_path / "out")["best_score"] == 0.5


def test_fits_that_fail_are_told_of(search_job: Callable[..., Path], tmp_path: Path) -> None:
    summary = run(search_job(grid={"C": [1.0, -1.0]}), tmp_path / "out")
    assert [(one["params"]["C"], one["status"]) for one in summary["trials"]] == [(1.0, "done"), (-1.0, "failed")]
    assert summary["trials"][1]["score"] is None
    lines = [json.loads(line) for line in (tmp_path / "out" / "outcomes.jsonl").read_text().splitlines()]
    assert "must be a float in the range (0.0, inf]" in lines[1]["reason"]
    with pytest.raises(WorkError, match="All the 3 fits failed"):
        run(search_job(grid={"C": [-1.0]}, name="bad"), tmp_path / "bad")
    assert json.loads((tmp_path / "bad" / "summary.json").read_text())["status"] == "failed"


BAD = [
    ({"grid": {"c": [1]}}, "grid: SVC has no parameter 'c'; did you mean 'C'?"),
    ({"grid": {}}, "grid: the grid is empty"),
    ({"grid": {"C": []}}, "grid: 'C' has no values"),
    ({"grid": {"C": 3}}, "grid: the values of 'C' are 3; give a list of values"),
    ({"grid": {"C": {"low": 1, "high": 2}}}, "are {'high': 2, 'low': 1}; give a list of values, or use `space:`"),
    ({"grid": None}, "names no `grid:`"),
    ({"grid": {"C": list(range(1, 400)), "gamma": list(range(1, 400))}}, "there are 159,201 candidates"),
    ({"strategy": "gird"}, "unknown strategy 'gird'; did you mean 'grid'?"),
    ({"estimator": "sklearn.svm:SVX"}, "sklearn.svm has no 'SVX'; did you mean 'SV"),
    ({"estimator": "SVC"}, "'SVC' is not of the form package.module:name"),
    ({"estimator": {"use": "sklearn.svm:SVC", "args": {"c": 1}}}, "raised TypeError"),
    ({"estimator": "slow_model:no_estimator"}, "gives int, which is no estimator: it lacks fit"),
    ({"scoring": "acuracy"}, "unknown metric 'acuracy'; did you mean 'accuracy'?"),
    ({"scoring": ["accuracy", "f1"]}, "does not say which of several metrics decides"),
    ({"scoring": ["accuracy", "f1"], "refit": "f2"}, "'f2' is no metric of the job; known: accuracy, f1"),
    ({"scoring": []}, "scoring: names no metric"),
    ({"cv": 1}, "1 folds are too few"),
    ({"cv": 1000}, "cv: cannot be made: Cannot have number of splits n_splits=1000 greater than the number of samples"),
    ({"cv": 70}, "cv: cannot be made: n_splits=70 cannot be greater than the number of members in each class"),
    ({"strategy": "halving", "halving": {"resource": "gama"}}, "SVC has no parameter 'gama'; did you mean 'gamma'?"),
    ({"cv": {"use": "sklearn.svm:SVC"}}, "gives no splitter"),
    ({"data": {"source": "short.npz"}}, "there are 120 rows of features but 119 targets"),
    ({"data": {"source": "gaps.npz"}}, "2 of 120 targets are missing (NaN)"),
]


@pytest.mark.parametrize(("fields", "said"), BAD, ids=[said[:40] for _, said in BAD])
def test_what_is_wrong_is_said(
    search_job: Callable[..., Path], tmp_path: Path, points: tuple[np.ndarray, np.ndarray], fields: Any, said: str
) -> None:
    job = search_job(**fields)
    x, y = points
    np.savez(tmp_path / "job" / "short.npz", x=x, y=y[:-1])
    np.savez(tmp_path / "job" / "gaps.npz", x=x, y=np.where(np.arange(120) < 2, np.nan, y))
    result = CliRunner().invoke(cli, ["run", str(job), "--out", str(tmp_path / "out"), "--address", "inprocess"])
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_large_grid_is_searched_once_it_is_confirmed(search_job: Callable[..., Path], tmp_path: Path) -> None:
    job = search_job(grid={"C": list(range(1, 400)), "gamma": list(range(1, 400))})
    with pytest.raises(InputError, match="--set confirm_large=true"):
        run(job, tmp_path / "out")
    result = CliRunner().invoke(cli, ["validate", str(job), "--set", "confirm_large=true"])
    assert result.exit_code == 0


def test_the_terminal_and_the_report_know_searches(search_job: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "runs" / "out"
    summary = run(search_job(scoring="accuracy"), out)
    shown = CliRunner().invoke(cli, ["runs", "show", str(out)])
    assert shown.exit_code == 0
    assert "6 candidates, 0 without a score" in shown.output
    assert f"C={summary['best_params']['C']:g}" in shown.output
    run(search_job(scoring="accuracy"), tmp_path / "runs" / "again")
    compared = CliRunner().invoke(cli, ["runs", "compare", str(out), str(tmp_path / "runs" / "again")])
    assert compared.output.count("accuracy") == 2
    assert "best accuracy" in CliRunner().invoke(cli, ["runs", "list", str(tmp_path / "runs")]).output
    assert CliRunner().invoke(cli, ["verify", str(out)]).exit_code == 0
    page = (out / "report.html").read_text()
    assert "Parameters</h2>" in page
    assert "History</h2>" in page
    assert "cv_results.parquet" in page
    again = CliRunner().invoke(cli, ["report", str(out)])
    assert again.exit_code == 0
    assert (out / "report.html").read_text() == page


def test_a_killed_search_goes_on_where_it_was(
    search_job: Callable[..., Path],
    points: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    killed_after: Callable[[list[str], int], None],
) -> None:
    smoothings = [10.0**-power for power in range(8)]
    job = search_job(estimator="slow_model:build", grid={"var_smoothing": smoothings}, cv=2)
    command = [PROGRAM, "run", str(job), "--out", str(tmp_path / "out"), "--address", "inprocess"]
    killed_after(command, 3)
    before = (tmp_path / "out" / "outcomes.jsonl").read_text().splitlines()
    assert 3 <= len(before) < 8
    summary = run(job, tmp_path / "out")
    assert summary["cells"]["cached"] >= 2 * len(before)
    assert summary["cells"]["here"] <= 16 - 2 * len(before)
    expected = GridSearchCV(GaussianNB(), {"var_smoothing": smoothings}, cv=2).fit(*points)
    assert (summary["best_params"], summary["best_score"]) == (expected.best_params_, expected.best_score_)
    lines = [json.loads(line)["id"] for line in (tmp_path / "out" / "outcomes.jsonl").read_text().splitlines()]
    assert len(lines) == len(set(lines)) == 8
