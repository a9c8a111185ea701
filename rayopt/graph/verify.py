"""Proof by running: two models give the same outputs on the same inputs, graph optimisation off on both sides."""

from __future__ import annotations

from typing import Any

import numpy as np

from rayopt.errors import StepError
from rayopt.models.onnx_model import predict, session, signature
from rayopt.records import Artifact

Array = np.ndarray[Any, Any]
RTOL = 1e-3
ATOL = 1e-4


def probes(rows: Array, seed: int) -> list[Array]:
    """Inputs to compare on: real rows as one batch and a single one, and noise of the rows' mean and spread."""
    generator = np.random.default_rng(seed)
    real = rows[:16]
    if rows.dtype.kind in "iu":
        return [real, real[:1]]
    noise = generator.normal(real.mean(), real.std() + 1e-6, (5, *rows.shape[1:])).astype(rows.dtype)
    return [real, real[:1], noise]


def same_outputs(before: Artifact, after: Artifact, inputs: list[Array]) -> float:
    """The largest absolute difference over all probes; raises StepError when it is more than rounding."""
    left, right = session(before, optimize=False), session(after, optimize=False)
    if signature(left) != signature(right):
        raise StepError("the input changed its name, type or batch size")
    return max(difference(predict(left, rows), predict(right, rows)) for rows in inputs)


def difference(wanted: Array, got: Array) -> float:
    """The largest absolute difference; raises StepError for other shapes or more than rounding."""
    if wanted.shape != got.shape:
        raise StepError(f"outputs have shape {got.shape} instead of {wanted.shape}")
    if not np.allclose(wanted, got, RTOL, ATOL * max(1.0, float(np.abs(wanted).max(initial=0))), equal_nan=True):
        worst = float(np.nanmax(np.abs(wanted - got), initial=0))
        raise StepError(f"outputs differ by up to {worst:.3g}")
    return float(np.nanmax(np.abs(wanted - got), initial=0))
