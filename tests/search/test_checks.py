"""What is wrong with rows and targets, sparse ones too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rayopt import BayesOptimizer, HyperparameterOptimizer
from rayopt.search.checks import check_data, check_names
from tests.search.estimators import AnyWords

LABELS = np.array([[0, 1], [1, 0], [0, 0]])


@pytest.mark.parametrize("make", [sparse.csr_matrix, sparse.csr_array, np.asarray, list])
def test_targets_may_be_sparse(make: Any) -> None:
    x = sparse.csr_matrix(np.eye(3))
    assert check_data(x, make(LABELS), "data") == []
    (short,) = check_data(x, make(LABELS[:2]), "data")
    assert short.problem == "there are 3 rows of features but 2 targets"
    (missing,) = check_data(x, make(np.where(LABELS == 1, np.nan, LABELS)), "data")
    assert missing.problem.startswith("2 of 3 targets are missing")


def test_targets_may_be_sequences_of_labels() -> None:
    assert check_data([[1], [1, 2], [3]], [["a"], ["a", "b"], ["c"]], "data") == []


def test_parameters_may_be_taken_without_being_listed() -> None:
    assert check_names(AnyWords(), {"var_smoothing": [0.1]}, "grid") == []
    pipeline = make_pipeline(StandardScaler(), AnyWords())
    assert check_names(pipeline, {"anywords__var_smoothing": [0.1]}, "grid") == []
    (fault,) = check_names(pipeline, {"standardscaler__with_men": [True]}, "grid")
    assert "did you mean 'standardscaler__with_mean'?" in fault.remedy


def test_what_is_not_listed_is_searched() -> None:
    x = np.random.default_rng(0).normal(size=(60, 2))
    y = (x[:, 0] > 0).astype(int)
    grid = HyperparameterOptimizer(AnyWords(), {"var_smoothing": [1e-9, 10.0]}, cv=2, backend="local")
    assert grid.grid_search(x, y)["best_params"] == {"var_smoothing": 1e-9}
    bounds = {"var_smoothing": (1e-9, 0.1)}
    bayes = BayesOptimizer(AnyWords(), bounds, n_iter=0, init_points=1, cv=2, backend="local")
    assert bayes.optimize(x, y)["target"] > 0.8
