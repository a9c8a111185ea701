"""A table's numbers reach an estimator as pandas reads them, to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier

from rayopt import api
from rayopt.errors import InputError


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_numbers_that_only_float64_tells_apart(suffix: str, search: Callable[..., Path], tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    number = generator.permutation(90)
    table = pandas.DataFrame({"id": 2**26 + number, "noise": 0.1 + 1e-9 * generator.random(90), "y": (number // 9) % 2})
    grid = {"n_neighbors": [1, 3, 5, 9], "weights": ["uniform", "distance"]}
    rows = {"source": f"rows.{suffix}", "target": "y"}
    job = search(estimator="sklearn.neighbors:KNeighborsClassifier", data=rows, grid=grid)
    if suffix == "csv":
        table.to_csv(job.parent / "rows.csv", index=False)
        table = pandas.read_csv(job.parent / "rows.csv")
    else:
        table.to_parquet(job.parent / "rows.parquet")
    summary = api.run(job, tmp_path / "out", address="inprocess")
    expected = GridSearchCV(KNeighborsClassifier(), grid, cv=3).fit(table[["id", "noise"]].to_numpy(), table["y"])
    found = pandas.read_parquet(tmp_path / "out" / "cv_results.parquet")
    for column in ("split0_test_score", "split2_test_score", "mean_test_score", "rank_test_score"):
        assert found[column].tolist() == expected.cv_results_[column].tolist()
    assert summary["best_params"] == expected.best_params_
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert plan["job"]["data"]["dtype"] == "float64"
    half = search(
        estimator="sklearn.neighbors:KNeighborsClassifier", data={**rows, "dtype": "float32"}, grid=grid, name="half"
    )
    coarse = api.run(half, tmp_path / "half", address="inprocess")
    assert coarse["cells"]["cached"] == 0
    assert coarse["best_score"] < summary["best_score"], "float32 has one number for four of these"


def test_an_unknown_type_is_refused(search: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dtype"):
        api.run(search(data={"source": "points.npz", "dtype": "float16"}), tmp_path / "out", address="inprocess")
