"""Metrics of classification and regression on raw model outputs, and of how close outputs stay to the original's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayopt import plugins
from rayopt.errors import StepError, did_you_mean, input_error
from rayopt.measure import intervals
from rayopt.records import Scores

Array = np.ndarray[Any, Any]
MOST_CLASSES = 1000  # outputs of more columns are embeddings rather than classes


@dataclass(frozen=True)
class Metric:
    """`function(targets, outputs)` gives one number; outputs are raw: logits `(rows, classes, ...)`, or quantities.

    `by_row`, where there is one, gives a value for each row, whose mean the number is.
    """

    name: str
    function: Callable[[Array, Array], float]
    higher_is_better: bool = True
    by_row: Callable[[Array, Array], Array] | None = None

    def drop(self, baseline: float, value: float) -> float:
        """By how much `value` is worse than `baseline` (negative: better)."""
        return baseline - value if self.higher_is_better else value - baseline


def accuracy(targets: Array, outputs: Array) -> Array:
    """By row, the share of targets whose largest output is theirs; for a single output, whose sign is right."""
    return _by_row(_largest(outputs) == targets)


def log_loss(targets: Array, outputs: Array) -> Array:
    """By row, the mean negative log likelihood, in nats, under the softmax of the outputs (the sigmoid of one)."""
    return _by_row(-np.take_along_axis(_log_softmax(_classes(outputs)), targets[:, None], axis=1)[:, 0])


def agreement(reference: Array, outputs: Array) -> Array:
    """By row, the share of places at which both have the same largest output; of a single output, the same sign."""
    return _by_row(_largest(outputs) == _largest(reference))


def cosine(reference: Array, outputs: Array) -> Array:
    """By row, the cosine of the angle between both outputs; 1 where both are zero."""
    left, right = (one.reshape(len(one), -1).astype(np.float64) for one in (reference, outputs))
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    same = (left == right).all(axis=1)
    found: Array = np.where(same, 1.0, (left * right).sum(axis=1) / np.where(lengths > 0, lengths, np.inf))
    return found


def kl(reference: Array, outputs: Array) -> Array:
    """By row, the mean Kullback-Leibler divergence, in nats, from the reference's softmax to the outputs'."""
    left, right = _log_softmax(_classes(reference)), _log_softmax(_classes(outputs))
    return _by_row((np.exp(left) * (left - right)).sum(axis=1))


def rmse(targets: Array, outputs: Array) -> float:
    """Root mean squared error, in the target's unit."""
    return float(np.sqrt(np.mean((outputs.reshape(targets.shape) - targets) ** 2)))


def r2(targets: Array, outputs: Array) -> float:
    """The share of the targets' variance that is explained; 0 for a constant target that is missed."""
    variance = float(np.mean((targets - targets.mean()) ** 2))
    error = rmse(targets, outputs)
    return 1 - error**2 / variance if variance else float(error == 0)


def _mean_of(by_row: Callable[[Array, Array], Array], higher_is_better: bool = True) -> Metric:
    def mean(targets: Array, outputs: Array) -> float:
        return float(by_row(targets, outputs).mean())

    return Metric(by_row.__name__, mean, higher_is_better, by_row)


BUILT_IN = {
    "accuracy": _mean_of(accuracy),
    "log_loss": _mean_of(log_loss, higher_is_better=False),
    "rmse": Metric("rmse", rmse, higher_is_better=False),
    "r2": Metric("r2", r2),
    "agreement": _mean_of(agreement),
    "cosine": _mean_of(cosine),
    "kl": _mean_of(kl, higher_is_better=False),
}
BY_TASK = {
    "classification": ("accuracy", "log_loss"),
    "regression": ("r2", "rmse"),
    "unlabeled": ("agreement", "cosine", "kl", "r2"),
}


def find_metric(name: str, folder: str, place: str) -> Metric:
    """A built-in metric, or the user's own `package.module:function`; raises InputError at `place`."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    if ":" not in name:
        raise input_error(place, f"unknown metric {name!r}", did_you_mean(name, [*BUILT_IN, "package.module:function"]))
    with plugins.importable(folder):
        function = plugins.locate(name, place)
    if not callable(function):
        raise input_error(place, f"{name} is not callable", "name a function of (targets, outputs)")
    return Metric(name.partition(":")[2], function, getattr(function, "higher_is_better", True))


def suited(outputs: Array) -> tuple[str, ...]:
    """The metrics that compare such outputs with the original's, the most telling first.

    Columns are taken for classes where there are 2 to 1000 of them and the rows are not of length 1 (as embeddings
    are); channels of maps for classes unless there are 3; what remains is compared as quantities.
    """
    columns = outputs.shape[1] if outputs.ndim > 1 else 1
    if outputs.ndim == 2 and columns > 1:
        unit = np.allclose(np.linalg.norm(outputs.astype(np.float64), axis=1), 1, atol=1e-3)
        classes = columns <= MOST_CLASSES and not unit
        return ("agreement", "cosine", "kl") if classes else ("cosine", "r2")
    if outputs.ndim == 4 and columns not in (1, 3):
        return ("agreement", "cosine", "kl")
    return ("cosine", "r2") if outputs[0].size > 1 else ("r2",)


def divergence(reference: Array, outputs: Array) -> float:
    """How far outputs are from the reference's: `kl` where they look like classes, else the share of the variance lost.

    Outputs of another size share nothing with it.
    """
    if reference.size != outputs.size:
        return 1.0
    outputs = outputs.reshape(reference.shape)
    if suited(reference)[0] == "agreement":
        return float(kl(reference, outputs).mean())
    return 1 - r2(reference, outputs)


def score(metric: Metric, task: str, targets: Array, outputs: Array, baseline: Array | None = None) -> Scores:
    """The metric with its interval, and all others of the task; raises StepError where something is not finite.

    baseline: the baseline's outputs for the same rows; the drop is then paired with it row by row. Without labels the
    targets are the baseline's outputs.
    """
    outputs = _whole(outputs).astype(np.float64)
    value = _finite(metric, targets, outputs)
    names = suited(targets) if task == "unlabeled" else BY_TASK[task]
    others = {name: _finite(BUILT_IN[name], targets, outputs) for name in names if name != metric.name}
    compared = targets if task == "unlabeled" and baseline is None else baseline
    pair = outputs if compared is None else compared.astype(np.float64)
    groups = targets if task == "classification" and targets.ndim == 1 else None
    interval, drop = _compared(metric, targets, outputs, pair, value, groups)
    apart = divergence(pair, outputs)
    return Scores(metric.name, value, *interval, len(targets), others, *drop, apart)


def _compared(
    metric: Metric, targets: Array, outputs: Array, pair: Array, value: float, groups: Array | None
) -> tuple[intervals.Interval, tuple[float, float, float, float]]:
    """The interval of `value`; the drop from `pair` (the outputs of the baseline), its interval and standard error."""
    if metric.by_row is not None:
        values, before = metric.by_row(targets, outputs), metric.by_row(targets, pair)
        drops = before - values if metric.higher_is_better else values - before
        error = float(drops.std() / math.sqrt(len(drops)))
        return intervals.of_mean(values), (float(drops.mean()), *intervals.of_mean_difference(drops), error)

    def both(rows: Array) -> tuple[float, float]:
        resampled = _finite(metric, targets[rows], outputs[rows])
        base = resampled if pair is outputs else _finite(metric, targets[rows], pair[rows])
        return resampled, metric.drop(base, resampled)

    of_value, of_drop, error = intervals.bootstrap(both, len(targets), groups, metric.name)
    drop = 0.0 if pair is outputs else metric.drop(_finite(metric, targets, pair), value)
    return of_value, (drop, *of_drop, error)


def worst(scores: list[Scores]) -> Scores:
    """Of the scores of several outputs, those with the largest drop."""
    return max(scores, key=lambda one: one.drop)


def _whole(outputs: Array) -> Array:
    broken = int((~np.isfinite(outputs.reshape(len(outputs), -1))).any(axis=1).sum())
    if broken:
        raise StepError(f"the model gives NaN or infinite outputs for {broken} of {len(outputs)} rows")
    return outputs


def _finite(metric: Metric, targets: Array, outputs: Array) -> float:
    try:
        value = float(metric.function(targets, outputs))
    except Exception as error:
        raise StepError(f"metric {metric.name} raised {type(error).__name__}: {error}") from error
    if not math.isfinite(value):
        raise StepError(f"metric {metric.name} gives {value}")
    return value


def _classes(outputs: Array) -> Array:
    """Logits `(rows, classes, ...)`; a single one z, of two classes, is the same as 0 and z."""
    if outputs.ndim > 1 and outputs.shape[1] > 1:
        return outputs
    single = outputs.reshape(-1)
    return np.stack([np.zeros(len(single)), single], axis=1)


def _largest(outputs: Array) -> Array:
    largest: Array = _classes(outputs).argmax(axis=1)
    return largest


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    found: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found


def _by_row(values: Array) -> Array:
    means: Array = values.reshape(len(values), -1).mean(axis=1)
    return means
