"""Metrics of classification and regression on raw model outputs, each with a 95 % interval."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayopt.errors import StepError
from rayopt.records import Scores

Array = np.ndarray[Any, Any]
Z = 1.959964  # the two-sided 95 % point of the normal distribution
RESAMPLES = 400
RESAMPLED_ROWS = 20_000_000  # of large splits fewer resamples are drawn: their intervals are narrow anyway


@dataclass(frozen=True)
class Metric:
    """`function(targets, outputs)` gives one number; outputs are raw: logits `(rows, classes)`, or quantities."""

    name: str
    function: Callable[[Array, Array], float]
    higher_is_better: bool = True

    def drop(self, baseline: float, value: float) -> float:
        """By how much `value` is worse than `baseline` (negative: better)."""
        return baseline - value if self.higher_is_better else value - baseline


def accuracy(targets: Array, outputs: Array) -> float:
    """The share of rows whose largest output is the target's; for a single output, whose sign is right."""
    return float((_predicted(outputs) == targets).mean())


def log_loss(targets: Array, outputs: Array) -> float:
    """Mean negative log likelihood of the targets, in nats, under the softmax of the outputs (the sigmoid of one)."""
    if outputs.ndim == 1 or outputs.shape[1] == 1:  # one logit for two classes
        outputs = np.stack([np.zeros(len(outputs)), outputs.reshape(-1)], axis=1)
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-log_probabilities[np.arange(len(targets)), targets].mean())


def rmse(targets: Array, outputs: Array) -> float:
    """Root mean squared error, in the target's unit."""
    return float(np.sqrt(np.mean((outputs.reshape(targets.shape) - targets) ** 2)))


def r2(targets: Array, outputs: Array) -> float:
    """The share of the targets' variance that is explained; 0 for a constant target that is missed."""
    variance = float(np.mean((targets - targets.mean()) ** 2))
    return 1 - rmse(targets, outputs) ** 2 / variance if variance else 0.0


BUILT_IN = {
    "accuracy": Metric("accuracy", accuracy),
    "log_loss": Metric("log_loss", log_loss, higher_is_better=False),
    "rmse": Metric("rmse", rmse, higher_is_better=False),
    "r2": Metric("r2", r2),
}
BY_TASK = {"classification": ("accuracy", "log_loss"), "regression": ("r2", "rmse")}


def score(metric: Metric, task: str, targets: Array, outputs: Array) -> Scores:
    """All metrics of the task and the job's own; raises StepError where outputs or a metric are not finite."""
    broken = int((~np.isfinite(outputs.reshape(len(outputs), -1))).any(axis=1).sum())
    if broken:
        raise StepError(f"the model gives NaN or infinite outputs for {broken} of {len(outputs)} rows")
    outputs = outputs.astype(np.float64)
    value = _finite(metric, targets, outputs)
    others = {name: _finite(BUILT_IN[name], targets, outputs) for name in BY_TASK[task] if name != metric.name}
    low, high = (
        _wilson(value, len(targets)) if metric.function is accuracy else _bootstrap(metric, task, targets, outputs)
    )
    return Scores(metric.name, value, low, high, len(targets), others)


def _finite(metric: Metric, targets: Array, outputs: Array) -> float:
    try:
        value = float(metric.function(targets, outputs))
    except Exception as error:
        raise StepError(f"metric {metric.name} raised {type(error).__name__}: {error}") from error
    if not math.isfinite(value):
        raise StepError(f"metric {metric.name} gives {value}")
    return value


def _predicted(outputs: Array) -> Array:
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        signs: Array = (outputs.reshape(-1) > 0).astype(np.int64)
        return signs
    largest: Array = outputs.argmax(axis=1)
    return largest


def _wilson(share: float, n: int) -> tuple[float, float]:
    """The score interval of a proportion (Wilson, 1927)."""
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return min(share, middle - half), max(share, middle + half)


def _bootstrap(metric: Metric, task: str, targets: Array, outputs: Array) -> tuple[float, float]:
    """The percentile interval over resampled rows (Efron, 1979), the same for the same rows.

    Classes are resampled each by itself. Resamples on which the metric has no value are left out; where those are most,
    the interval is all that the others give. Raises StepError when it has a value on none.
    """
    generator = np.random.default_rng(0)
    groups = [np.flatnonzero(targets == one) for one in np.unique(targets)] if task == "classification" else []
    groups = groups or [np.arange(len(targets))]
    values = []
    count = min(RESAMPLES, max(100, RESAMPLED_ROWS // len(targets)))
    for _ in range(count):
        rows = np.concatenate([generator.choice(group, len(group)) for group in groups])
        with contextlib.suppress(StepError):
            values.append(_finite(metric, targets[rows], outputs[rows]))
    if not values:
        raise StepError(f"metric {metric.name} has no value on any resample of its {len(targets)} rows")
    low, high = np.quantile(values, [0.025, 0.975] if len(values) >= count / 2 else [0, 1])
    return float(low), float(high)
