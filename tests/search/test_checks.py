"""What is wrong with rows and targets, sparse ones too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

from rayopt.search.checks import check_data

LABELS = np.array([[0, 1], [1, 0], [0, 0]])


@pytest.mark.parametrize("make", [sparse.csr_matrix, sparse.csr_array, np.asarray, list])
def test_targets_may_be_sparse(make: Any) -> None:
    x = sparse.csr_matrix(np.eye(3))
    assert check_data(x, make(LABELS), "data") == []
    (short,) = check_data(x, make(LABELS[:2]), "data")
    assert short.problem == "there are 3 rows of features but 2 targets"
    (missing,) = check_data(x, make(np.where(LABELS == 1, np.nan, LABELS)), "data")
    assert missing.problem.startswith("2 of 3 targets are missing")
