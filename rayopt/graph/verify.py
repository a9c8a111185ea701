"""Proof by running: two models give the same outputs on the same inputs, graph optimisation off on both sides."""

from __future__ import annotations

from typing import Any

import numpy as np

from rayopt.data.rows import Rows, arrays_of, like
from rayopt.errors import StepError
from rayopt.models.onnx_model import predict_all, session, signature
from rayopt.records import Artifact

Array = np.ndarray[Any, Any]
RTOL = 1e-3
ATOL = 1e-4


def probes(rows: Rows, seed: int) -> list[Rows]:
    """Inputs to compare on: real rows as one batch and a single one, and noise of the rows' mean and spread.

    Whole numbers are taken as they are: a model may look them up.
    """
    generator = np.random.default_rng(seed)
    real = rows[:16]
    arrays = arrays_of(real)
    if all(array.dtype.kind in "iub" for array in arrays.values()):
        return [real, real[:1]]
    noise = {name: _noise(array, min(5, len(real)), generator) for name, array in arrays.items()}
    return [real, real[:1], like(rows, noise)]


def _noise(array: Array, count: int, generator: np.random.Generator) -> Array:
    if array.dtype.kind in "iub":
        return array[:count]
    return generator.normal(array.mean(), array.std() + 1e-6, (count, *array.shape[1:])).astype(array.dtype)


def same_outputs(before: Artifact, after: Artifact, inputs: list[Rows]) -> float:
    """The largest absolute difference of any output over all probes; raises StepError when it is more than rounding."""
    left, right = session(before, optimize=False), session(after, optimize=False)
    if signature(left) != signature(right):
        raise StepError("the inputs changed their names, types or batch size")
    if [one.name for one in left.get_outputs()] != [one.name for one in right.get_outputs()]:
        raise StepError("the outputs changed their names")
    return max(
        difference(wanted, got)
        for rows in inputs
        for wanted, got in zip(predict_all(left, rows), predict_all(right, rows), strict=True)
    )


def difference(wanted: Array, got: Array) -> float:
    """The largest absolute difference; raises StepError for other shapes or more than rounding."""
    if wanted.shape != got.shape:
        raise StepError(f"outputs have shape {got.shape} instead of {wanted.shape}")
    if not np.allclose(wanted, got, RTOL, ATOL * max(1.0, float(np.abs(wanted).max(initial=0))), equal_nan=True):
        worst = float(np.nanmax(np.abs(wanted - got), initial=0))
        raise StepError(f"outputs differ by up to {worst:.3g}")
    return float(np.nanmax(np.abs(wanted - got), initial=0))
