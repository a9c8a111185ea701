"""How far a changed model's outputs are from the original's, without targets; each is a mean over rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from rayopt.errors import StepError

Array = np.ndarray[Any, Any]


def divergence(reference: Array, outputs: Array, logits: bool | None = None) -> float:
    """One number, 0 for equal outputs: `kl` of class logits, `relative_mse` of everything else.

    `logits` says which they are; left out, two-dimensional outputs of two or more columns are taken for logits.
    """
    like_logits = reference.ndim == 2 and reference.shape[1] > 1
    return kl(reference, outputs) if (like_logits if logits is None else logits) else relative_mse(reference, outputs)


def kl(reference: Array, outputs: Array) -> float:
    """Kullback and Leibler's divergence in nats of softmax(outputs) from softmax(reference), over the last axis."""
    wanted, got = _checked(reference, outputs)
    before, after = _log_softmax(wanted), _log_softmax(got)
    per_row = (np.exp(before) * (before - after)).sum(axis=-1)
    return max(0.0, float(per_row.mean()))  # rounding can give -1e-17


def cosine(reference: Array, outputs: Array) -> float:
    """One minus the cosine of each row's outputs, flattened: 0 for the same direction, 2 for the opposite one.

    Two rows of zeros have the same direction; a row of zeros and another have 1.
    """
    wanted, got = (_rows(one) for one in _checked(reference, outputs))
    lengths = np.linalg.norm(wanted, axis=1), np.linalg.norm(got, axis=1)
    product = lengths[0] * lengths[1]
    same = np.where((lengths[0] == 0) & (lengths[1] == 0), 1.0, 0.0)
    cosines = np.divide((wanted * got).sum(axis=1), product, out=same, where=product > 0)
    return float((1 - np.clip(cosines, -1, 1)).mean())


def agreement(reference: Array, outputs: Array) -> float:
    """The share of rows whose largest output is the same (of a single output: whose sign is)."""
    wanted, got = _checked(reference, outputs)
    if wanted.ndim == 1 or wanted.shape[-1] == 1:
        return float(((wanted > 0) == (got > 0)).mean())
    return float((wanted.argmax(axis=-1) == got.argmax(axis=-1)).mean())


def relative_mse(reference: Array, outputs: Array) -> float:
    """Mean squared error over the reference's variance about its mean row; over its mean square if it does not vary."""
    wanted, got = (_rows(one) for one in _checked(reference, outputs))
    error = float(((wanted - got) ** 2).mean())
    scale = float(((wanted - wanted.mean(axis=0)) ** 2).mean()) or float((wanted**2).mean())
    return error / scale if scale > 0 else error


def _checked(reference: Array, outputs: Array) -> tuple[Array, Array]:
    """Both as float64; raises StepError for other shapes, no rows, and values that are not finite."""
    if reference.shape != outputs.shape:
        raise StepError(f"outputs have shape {outputs.shape} instead of {reference.shape}")
    if reference.size == 0:
        raise StepError("there are no outputs to compare")
    wanted, got = reference.astype(np.float64), outputs.astype(np.float64)
    if not (np.isfinite(wanted).all() and np.isfinite(got).all()):
        raise StepError("outputs hold NaN or infinite values")
    return wanted, got


def _rows(values: Array) -> Array:
    return values.reshape(len(values), -1)


def _log_softmax(values: Array) -> Array:
    shifted = values - values.max(axis=-1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logs
