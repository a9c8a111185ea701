"""Early stopping: whether a training still gets better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rayopt.measure.metrics import Metric
from rayopt.training.settings import EarlyStopSettings


def has_stalled(curve: Sequence[Mapping[str, float]], metric: Metric, settings: EarlyStopSettings | None) -> bool:
    """Whether the metric has not got better by more than `min_delta` for `patience` epochs; curve: one entry each."""
    if settings is None or not curve or metric.name not in curve[-1]:
        return False
    sign = 1 if metric.higher_is_better else -1
    best, at = -math.inf, 0
    for entry in curve:
        if sign * entry[metric.name] > best + (settings.min_delta if math.isfinite(best) else 0):
            best, at = sign * entry[metric.name], int(entry["epoch"])
    return int(curve[-1]["epoch"]) - at >= settings.patience
