"""A quick search of an estimator, and modules of a user's own beside its job file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

OWN = """
from sklearn.neighbors import KernelDensity
from sklearn.svm import SVC

def infinite(estimator, x, y):
    return float("inf") if estimator.C == 1.0 else estimator.score(x, y)

def few(estimator, x, y):
    if len(y) < 30:
        raise ValueError("too few rows")
    return estimator.score(x, y)

def two(estimator, x, y):
    return {"first": estimator.score(x, y), "second": 1.0}

def lowest(estimator, x, y):
    return -1e308

def not_a_number(estimator, x, y):
    return float("nan") if len(y) < 30 else estimator.score(x, y)

class Picky(SVC):
    def fit(self, x, y):
        if self.C == 10.0:
            raise ValueError("C is too large")
        return super().fit(x, y)

def picky(**args):
    return Picky(**args)

def density(**args):
    return KernelDensity(**args)
"""


@pytest.fixture
def search(tmp_path: Path, points: tuple[np.ndarray, np.ndarray]) -> Callable[..., Path]:
    """Writes the job with its data beside it; keyword arguments replace its fields, None drops them."""

    def write(**fields: Any) -> Path:
        place = tmp_path / "job"
        place.mkdir(exist_ok=True)
        np.savez(place / "points.npz", x=points[0], y=points[1])
        (place / "of_mine.py").write_text(OWN)
        job = {
            "kind": "search",
            "name": "quick",
            "estimator": "sklearn.svm:SVC",
            "data": {"source": "points.npz"},
            "grid": {"C": [0.1, 1.0, 10.0]},
            "cv": 3,
            **fields,
        }
        (place / "job.yaml").write_text(yaml.safe_dump({key: one for key, one in job.items() if one is not None}))
        return place / "job.yaml"

    return write
