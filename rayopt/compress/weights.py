"""Weights as whole numbers of any width from 2 to 16 bits, with the scale that gives the least squared error."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rayopt.errors import StepError, did_you_mean

Array = np.ndarray[Any, Any]
BITS = range(2, 17)
FLOAT = (0, 32)  # widths that mean: leave in floating point
MIN_SIZE = 256  # below it the scales and the nodes that decode a tensor cost about what packing saves
REFINEMENTS = 4
MEAN_SHARE = 0.1  # how much a channel's summed error counts: what follows a ReLU has a mean, which the sum shifts
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Plan:
    """How weights are quantised.

    `layers` gives other bits by layer name or pattern, a later one before an earlier one; 0 or 32 leaves it in float.
    Tensors of fewer than `min_size` elements stay in float.
    """

    bits: int = 8
    per_channel: bool = True
    symmetric: bool = True
    layers: Mapping[str, int] = field(default_factory=dict)
    min_size: int = MIN_SIZE

    def __post_init__(self) -> None:
        for place, bits in (("bits", self.bits), *self.layers.items()):
            if bits not in BITS and (bits not in FLOAT or place == "bits"):
                also = "" if place == "bits" else ", or 0 for float"
                raise StepError(f"{place}: weights have 2 to 16 bits{also}, got {bits}")

    def bits_of(self, names: Mapping[str, Iterable[str]]) -> dict[str, int]:
        """Bits by key, for the names that each goes by; 0 is float. Raises StepError for a pattern without match."""
        found = dict.fromkeys(names, self.bits)
        for pattern, bits in self.layers.items():
            keys = [key for key, own in names.items() if any(fnmatch.fnmatchcase(one, pattern) for one in own)]
            if not keys:
                known = [name for own in names.values() for name in own]
                raise StepError(f"no weights are named {pattern!r}; {did_you_mean(pattern, known)}")
            found.update(dict.fromkeys(keys, 0 if bits in FLOAT else bits))
        return found


@dataclass(frozen=True)
class Codes:
    """A tensor as `(values - zero) * scale`.

    values: unsigned whole numbers of `bits` bits in the tensor's shape; scale, zero: float32 whole numbers for `zero`,
    in the same number of dimensions, 1 where they are shared. `symmetric`: zero is `2 ** (bits - 1)` throughout.
    """

    values: Array
    scale: Array
    zero: Array
    bits: int
    symmetric: bool

    def decoded(self) -> Array:
        """The tensor in float32, as every reader of a packed file computes it."""
        whole: Array = self.values.astype(np.float32) - self.zero
        return whole * self.scale


def quantize(tensor: Array, bits: int, axes: tuple[int, ...], symmetric: bool, limit: float = FLOAT32_MAX) -> Codes:
    """The codes of `tensor`, with a scale of its own for each index along `axes` (one for all where that is empty).

    The scale of least squared error is looked for on a grid of clipping points and refined by turns with the codes
    (Lloyd, 1982); a channel's mean error counts as well (Banner et al., 2019, on its bias). Symmetric scales may be
    negative: the one level more on one side then lies where it helps. Zeros stay zero. No decoded value is above
    `limit`, the largest that the tensor's own type holds.
    """
    shared = [axis for axis in range(tensor.ndim) if axis not in axes]
    order = [*axes, *shared]
    channels = int(np.prod([tensor.shape[axis] for axis in axes], dtype=np.int64))
    rows = tensor.astype(np.float32).transpose(order).reshape(channels, tensor.size // max(1, channels))
    peak = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    peak[peak == 0] = 1
    step, zero = _search(rows / peak, bits, symmetric)
    most = limit / np.maximum(zero, 2**bits - 1 - zero) / (1 + 1e-6)
    scale = np.clip(step.astype(np.float64) * peak, -most, most).astype(np.float32)
    scale[scale == 0] = 1  # of numbers so small that their scale is none
    values = _codes(rows, scale, zero, bits)
    kept = [tensor.shape[axis] if axis in axes else 1 for axis in range(tensor.ndim)]
    back = np.argsort(order)
    shape = [tensor.shape[axis] for axis in order]
    return Codes(
        values.astype(np.uint8 if bits <= 8 else np.uint16).reshape(shape).transpose(back).copy(),
        scale.reshape(kept), zero.reshape(kept), bits, symmetric,
    )  # fmt: skip


def check_finite(name: str, tensor: Array) -> None:
    """Raises StepError where a weight is NaN or infinite."""
    broken = tensor.size - int(np.isfinite(tensor).sum())
    if broken:
        raise StepError(f"{name} has {broken} NaN or infinite weights of {tensor.size}; train the model again")


def _search(unit: Array, bits: int, symmetric: bool) -> tuple[Array, Array]:
    """Step and zero `(channels, 1)` of least squared error for rows `(channels, n)` within -1 and 1."""
    best = np.full((len(unit), 1), np.inf, np.float32)
    step, zero = np.ones_like(best), np.full_like(best, 2 ** (bits - 1))
    if unit.shape[1] == 0:
        return step, zero
    for tried, at in _candidates(unit, bits, symmetric):
        error = _error(unit, _codes(unit, tried, at, bits), tried, at)
        better = error < best
        best, step, zero = (np.where(better, new, old) for new, old in ((error, best), (tried, step), (at, zero)))
    for _ in range(REFINEMENTS):
        codes = _codes(unit, step, zero, bits)
        whole = codes - zero
        norm = np.einsum("cn,cn->c", whole, whole)[:, None]
        fitted = np.where(norm > 0, np.einsum("cn,cn->c", unit, whole)[:, None] / np.maximum(norm, 1), step)
        fitted = np.where(fitted == 0, step, fitted).astype(np.float32)
        error = _error(unit, _codes(unit, fitted, zero, bits), fitted, zero)
        step, best = np.where(error < best, fitted, step), np.minimum(error, best)
    return step, zero


def _candidates(unit: Array, bits: int, symmetric: bool) -> Iterator[tuple[Array, Array]]:
    """Steps and zeros to begin from: the range, clipped more and more."""
    half, top = 2 ** (bits - 1), 2**bits - 1
    middle = np.full((len(unit), 1), half, np.float32)
    low = np.minimum(unit.min(axis=1, keepdims=True), 0)
    high = np.maximum(unit.max(axis=1, keepdims=True), 0)
    for clip in np.linspace(0.2, 1.0, 17) if bits <= 5 else np.linspace(0.6, 1.0, 9) if bits <= 8 else [1.0]:
        for sign in (1, -1):
            yield np.full_like(middle, sign * clip / (half - 1)), middle
        if not symmetric:
            step = np.maximum((high - low) * np.float32(clip / top), np.float32(1e-30))
            yield step, np.clip(np.rint(-low * np.float32(clip) / step), 0, top).astype(np.float32)


def _codes(rows: Array, step: Array, zero: Array, bits: int) -> Array:
    codes: Array = np.rint(rows / step)
    codes += zero
    return np.clip(codes, 0, 2**bits - 1, out=codes)


def _error(rows: Array, codes: Array, step: Array, zero: Array) -> Array:
    """The squared error of each row and a share of its squared sum, `(channels, 1)`; overwrites `codes`."""
    codes -= zero
    codes *= step
    codes -= rows
    total: Array = np.einsum("cn,cn->c", codes, codes) + MEAN_SHARE * codes.sum(axis=1) ** 2
    return total[:, None]
