"""What a point is worth trying for: log expected improvement and log probability of keeping limits.

Logarithms keep their slope where the improvement itself is zero in floating point (Ament et al., 2023).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import erfcx, log_ndtr

from rayopt.search.parameters import Array

LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)


def log_improvement(mean: Array, variance: Array, best: float | Array) -> Array:
    """Log of the expected amount by which a normal value exceeds `best` (Jones et al., 1998)."""
    deviation = np.sqrt(variance)
    found: Array = np.log(deviation) + _log_h((mean - best) / deviation)
    return found


def log_improvement_slopes(mean: Any, variance: Any, best: Any) -> tuple[Array, Array, Array]:
    """`log_improvement`, and how it changes with mean and with variance."""
    deviation = np.sqrt(variance)
    z = (mean - best) / deviation
    log_h = _log_h(z)
    by_z = np.exp(log_ndtr(z) - log_h)
    return np.log(deviation) + log_h, by_z / deviation, (1 - by_z * z) / (2 * variance)


def log_probability_below(mean: Array, variance: Array, limit: float) -> Array:
    """Log of the probability that a normal value is at most `limit`."""
    found: Array = log_ndtr((limit - mean) / np.sqrt(variance))
    return found


def log_probability_slopes(mean: float, variance: float, limit: float) -> tuple[float, float, float]:
    """`log_probability_below` of one point, and how it changes with mean and with variance."""
    deviation = math.sqrt(variance)
    z = (limit - mean) / deviation
    value = float(log_ndtr(z))
    by_z = math.exp(-0.5 * z * z - LOG_ROOT_2PI - value)
    return value, -by_z / deviation, -by_z * z / (2 * variance)


def _log_h(z: Array) -> Array:
    """log(phi(z) + z Phi(z)) without cancellation."""
    z = np.asarray(z, dtype=float)
    low = np.minimum(z, -1.0)
    high = np.maximum(z, -1.0)
    direct = np.log(np.exp(-0.5 * high * high - LOG_ROOT_2PI) + high * np.exp(log_ndtr(high)))
    inner = np.where(low > -1e5, low * math.sqrt(math.pi / 2) * erfcx(-low / math.sqrt(2)), -1.0 + 1e-10)
    tail = np.where(low > -1e5, np.log1p(np.maximum(inner, -1.0 + 1e-16)), -2 * np.log(-low))
    found: Array = np.where(z > -1.0, direct, -0.5 * low * low - LOG_ROOT_2PI + tail)
    return found
