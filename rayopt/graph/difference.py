"""How far two outputs are apart, and what is more than rounding."""

from __future__ import annotations

from typing import Any

import numpy as np

from rayopt.errors import StepError
from rayopt.graph.edges import moderate
from rayopt.graph.inputs import Array

RTOL = 1e-3
ATOL_SHARE = 1e-5  # of the largest finite value of the output
LEAST_SCALE = 1e-6
LEAST_EDGE_SCALE = 1e-2  # at edges all may saturate, and near 0 a sigmoid in float32 is right to 6e-8, no better
HALF = {"float16": (1e-2, 2e-3)}


def difference(wanted: Any, got: Any, least_scale: float = LEAST_SCALE) -> float:
    """The largest absolute difference; raises StepError for another type or shape, or more than rounding.

    least_scale: of outputs that are smaller, differences count as of outputs of that size.
    """
    if type(wanted) is not type(got):
        raise StepError(f"an output is {type(got).__name__} instead of {type(wanted).__name__}")
    if isinstance(wanted, list):
        if len(wanted) != len(got):
            raise StepError(f"an output has {len(got)} parts instead of {len(wanted)}")
        return max((difference(*pair, least_scale) for pair in zip(wanted, got, strict=True)), default=0.0)
    if isinstance(wanted, dict):
        if list(wanted) != list(got):
            raise StepError("an output has other keys")
        pairs = [(np.asarray(wanted[key]), np.asarray(got[key])) for key in wanted]
        return max((difference(*pair, least_scale) for pair in pairs), default=0.0)
    if not isinstance(wanted, np.ndarray):
        if wanted != got:
            raise StepError("an output has another value")
        return 0.0
    return _array_difference(wanted, got, least_scale)


def _array_difference(wanted: Array, got: Array, least_scale: float) -> float:
    if wanted.dtype != got.dtype:
        raise StepError(f"outputs are {got.dtype} instead of {wanted.dtype}")
    if wanted.shape != got.shape:
        raise StepError(f"outputs have shape {got.shape} instead of {wanted.shape}")
    if wanted.dtype.kind != "f":
        if not np.array_equal(wanted, got):
            raise StepError("outputs that are no real numbers differ")
        return 0.0
    left, right = wanted.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(left)
    if not np.array_equal(left[~finite], right[~finite], equal_nan=True):
        raise StepError("outputs that are not finite differ")
    left, right = left[finite], right[finite]
    if not np.isfinite(right).all():
        raise StepError("outputs that were finite are not")
    error = np.abs(left - right)
    scale = float(np.abs(left).max(initial=0))
    rtol, share = HALF.get(str(wanted.dtype), (RTOL, ATOL_SHARE))
    worst = float(error.max(initial=0))
    if (error > rtol * np.abs(left) + share * max(scale, least_scale)).any():
        raise StepError(f"outputs differ by up to {worst:.3g}, of values up to {scale:.3g}")
    return worst


def moderate_parts(wanted: Any, got: Any) -> tuple[Any, Any]:
    """Of an output and its counterpart what did not overflow."""
    if not isinstance(wanted, np.ndarray) or wanted.dtype.kind != "f" or np.shape(got) != wanted.shape:
        return wanted, got
    kept = moderate(wanted)
    return wanted[kept], got[kept]
