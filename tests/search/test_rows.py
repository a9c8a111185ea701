"""Groups and weights of rows reach splitter and fits as scikit-learn takes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import yaml
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, HalvingGridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rayopt import api
from rayopt.errors import InputError

GRID = {"logisticregression__C": [0.01, 0.1, 1.0, 10.0]}


@pytest.fixture
def job_of(tmp_path: Path, points: tuple[np.ndarray, np.ndarray]) -> Callable[..., Path]:
    """Writes a job with the points as a table that has a column of groups and one of weights."""
    x, y = points
    table = pandas.DataFrame(x, columns=list("abcd"))
    table["label"], table["patient"], table["weight"] = y, np.arange(120) // 10, np.linspace(0.1, 2, 120)
    table.to_csv(tmp_path / "points.csv", index=False)
    np.savez(tmp_path / "points.npz", x=x, y=y, patient=np.arange(120) // 10, short=np.ones(3))

    def write(**fields: Any) -> Path:
        job = {
            "kind": "search",
            "name": "rows",
            "estimator": ["sklearn.preprocessing:StandardScaler", "sklearn.linear_model:LogisticRegression"],
            "data": {"source": "points.csv", "target": "label"},
            "grid": GRID,
            "cv": {"use": "sklearn.model_selection:GroupKFold", "args": {"n_splits": 4}},
            "groups": "patient",
            "sample_weight": "weight",
            **fields,
        }
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump({name: value for name, value in job.items() if value is not None}))
        return path

    return write


def run(job: Path, out: Path) -> pandas.DataFrame:
    api.run(job, out, address="inprocess")
    return pandas.read_parquet(out / "cv_results.parquet")


@pytest.mark.parametrize("weighted", [True, False])
def test_a_job_with_groups_and_weights(
    job_of: Callable[..., Path], points: tuple[np.ndarray, np.ndarray], tmp_path: Path, weighted: bool
) -> None:
    x, y = points
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(random_state=0))
    params: dict[str, Any] = {"groups": np.arange(120) // 10}
    if weighted:
        params["logisticregression__sample_weight"] = np.linspace(0.1, 2, 120)
    expected = GridSearchCV(pipeline, GRID, cv=GroupKFold(4)).fit(x, y, **params)
    without = {"sample_weight": None, "data": {"source": "points.npz"}}
    table = run(job_of(**({} if weighted else without)), tmp_path / "out")
    for column in ("mean_test_score", "split3_test_score", "rank_test_score"):
        assert table[column].tolist() == expected.cv_results_[column].tolist()


def test_those_of_a_group_stay_together_in_the_test_share(job_of: Callable[..., Path], tmp_path: Path) -> None:
    summary = api.run(job_of(test=0.25), tmp_path / "out", address="inprocess")
    assert summary["test"]["n"] == 30, "three of twelve groups of ten"
    assert summary["rows"] == 90


def test_the_ranks_of_halving_are_those_of_scikit_learn(
    job_of: Callable[..., Path], points: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    halving = {"factor": 2, "min_resources": 30}
    job = job_of(strategy="halving", halving=halving, cv=3, groups=None, sample_weight=None,
                 data={"source": "points.npz"})  # fmt: skip
    summary = api.run(job, tmp_path / "out", address="inprocess")
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(random_state=0))
    expected = HalvingGridSearchCV(pipeline, GRID, cv=3, random_state=0, **halving).fit(*points)
    table = pandas.read_csv(tmp_path / "out" / "cv_results.csv")
    assert table["rank_test_score"].tolist() == expected.cv_results_["rank_test_score"].tolist()
    assert sorted(one["rank"] for one in summary["trials"]) == sorted(table["rank_test_score"])
    assert summary["best_params"] == summary["trials"][0]["params"] == expected.best_params_


BAD = [
    ({"groups": "patients"}, "groups: points.csv has no column or array 'patients'; did you mean 'patient'?"),
    ({"groups": "label"}, "groups: 'label' is a feature or the target too"),
    ({"groups": None, "sample_weight": None}, "cv: GroupKFold splits by groups, and the job names none"),
    ({"estimator": "sklearn.neighbors:KNeighborsClassifier", "grid": {"n_neighbors": [1]}},
     "sample_weight: KNeighborsClassifier takes no weights"),
    ({"data": {"source": "points.npz"}, "sample_weight": "short"}, "sample_weight: has the shape (3,) where there are"),
    ({"data": {"source": "digits"}}, "groups: digits has no named columns"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "said"), BAD, ids=[said[:30] for _, said in BAD])
def test_what_is_wrong_with_them_is_told(
    job_of: Callable[..., Path], tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        api.run(job_of(**fields), tmp_path / "out", address="inprocess")
    assert said in str(caught.value)
