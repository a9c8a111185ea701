"""95 % intervals: of shares, of means over rows, of differences within rows, and of any function of rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rayopt.errors import StepError

Array = np.ndarray[Any, Any]
Interval = tuple[float, float]
Z = 1.959964  # the two-sided 95 % point of the normal distribution
RESAMPLES = 400
RESAMPLED_ROWS = 20_000_000  # of large splits fewer resamples are drawn: their intervals are narrow anyway


def of_mean(values: Array) -> Interval:
    """The interval of the mean of values `(rows,)`: Wilson's for a share of rows, else by resampling the rows."""
    if ((values == 0) | (values == 1)).all():
        return wilson(float(values.mean()), len(values))
    return _resampled_mean(values)


def of_mean_difference(differences: Array) -> Interval:
    """The interval of the mean of differences within rows, which are -1, 0 and 1 where rows are right or wrong.

    Those get half a row more in each cell, or few differences would make a false certainty (Agresti and Min, 2005).
    """
    if not np.isin(differences, (-1, 0, 1)).all():
        return _resampled_mean(differences)
    n = len(differences)
    more, less = (differences > 0).sum() + 0.5, (differences < 0).sum() + 0.5
    middle = (more - less) / (n + 2)
    half = Z * math.sqrt((more + less) - (more - less) ** 2 / (n + 2)) / (n + 2)
    mean = float(differences.mean())
    return min(mean, float(middle - half)), max(mean, float(middle + half))


def wilson(share: float, n: int) -> Interval:
    """The score interval of a proportion (Wilson, 1927)."""
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return min(share, middle - half), max(share, middle + half)


def bootstrap(
    function: Callable[[Array], tuple[float, float]], rows: int, classes: Array | None, name: str
) -> tuple[Interval, Interval, float]:
    """The percentile intervals of two values over resampled row numbers (Efron, 1979), and the second's standard error.

    The same for the same rows.

    Rows of each class are resampled by themselves. Resamples on which `function` has no value (StepError) are left out;
    where those are most, the intervals are all that the others give. Raises StepError when it has a value on none.
    """
    generator = np.random.default_rng(0)
    groups = [np.flatnonzero(classes == one) for one in np.unique(classes)] if classes is not None else []
    groups = groups or [np.arange(rows)]
    found = []
    count = _resamples(rows)
    for _ in range(count):
        drawn = np.concatenate([generator.choice(group, len(group)) for group in groups])
        try:
            found.append(function(drawn))
        except StepError:
            continue
    if not found:
        raise StepError(f"metric {name} has no value on any resample of its {rows} rows")
    bounds = np.quantile(found, [0.025, 0.975] if len(found) >= count / 2 else [0, 1], axis=0)
    error = float(np.std([one[1] for one in found]))
    return (float(bounds[0, 0]), float(bounds[1, 0])), (float(bounds[0, 1]), float(bounds[1, 1])), error


def _resampled_mean(values: Array) -> Interval:
    generator = np.random.default_rng(0)
    means = [values[generator.integers(0, len(values), len(values))].mean() for _ in range(_resamples(len(values)))]
    low, high = np.quantile(means, [0.025, 0.975])
    return min(float(low), float(values.mean())), max(float(high), float(values.mean()))


def _resamples(rows: int) -> int:
    return min(RESAMPLES, max(100, RESAMPLED_ROWS // rows))
