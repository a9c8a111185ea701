"""The range of each activation over calibration rows, in bounded memory: one pass for the extremes, one to count."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from rayopt.compress.settings import StaticSettings
from rayopt.errors import StepError
from rayopt.models.onnx_model import DTYPES, from_proto, session

Array = np.ndarray[Any, Any]
Ranges = Mapping[str, tuple[float, float]]
ROWS = 32
MEMORY_BYTES = 256 << 20  # what one batch's activations may take
BINS = 2048
LEVELS = 128
FULL_BIN = 16  # values in a bin of a histogram that is worth looking at


def batches(running: Any, rows: Any, size: int = ROWS) -> Iterator[dict[str, Array]]:
    """What to feed a session, `size` rows at a time, or as many as the model fixes.

    `rows` is an array (for a model of one input) or an object with `.arrays` (input name to array), `len()` and
    slicing. Raises StepError for rows that are none, too few for a fixed batch, NaN, infinite, or of another shape.
    """
    inputs = running.get_inputs()
    fixed = {one.shape[0] for one in inputs if one.shape and isinstance(one.shape[0], int) and one.shape[0] > 0}
    step = max(fixed) if fixed else size
    usable = len(rows) - len(rows) % step if fixed else len(rows)
    if usable == 0:
        need = f"; the model takes batches of {step}" if fixed else ""
        raise StepError(f"{len(rows)} calibration rows are too few{need}")
    for start in range(0, usable, step):
        part = rows[start : start + step]
        arrays = part.arrays if hasattr(part, "arrays") else {inputs[0].name: part}
        yield {one.name: _fitting(one, arrays) for one in inputs}


def find_ranges(proto: Any, rows: Any, operators: Collection[str], settings: StaticSettings) -> dict[str, Any]:
    """The (low, high) of each float activation beside nodes of these operators, as `settings.calibration` finds it.

    minmax: the extremes. percentile: without the least and largest values. entropy: a symmetric clip whose 128 levels
    lose the least information (Migacz, "8-bit inference with TensorRT", 2017). Ranges may be infinite.
    """
    watched = _Watched(proto, operators)
    extremes: dict[str, tuple[float, float]] = {}
    for values in watched.run(rows):
        for name, array in values.items():
            low, high = extremes.get(name, (np.inf, -np.inf))
            extremes[name] = float(np.minimum(low, array.min())), float(np.maximum(high, array.max()))  # NaN stays
    broken = sorted(name for name, (low, high) in extremes.items() if np.isnan(low) or np.isnan(high))
    if broken:
        raise StepError(f"the model gives NaN in {broken[0]!r} on the calibration rows")
    if settings.calibration == "minmax":
        return extremes
    found = dict(extremes)
    for name, counts in _histograms(watched, rows, extremes).items():
        clip = _entropy_clip if settings.calibration == "entropy" else _percentile_clip
        found[name] = clip(counts, extremes[name], settings)
    return found


class _Watched:
    """A session whose outputs are the activations beside nodes of some operators."""

    def __init__(self, proto: Any, operators: Collection[str]) -> None:
        copy = type(proto).FromString(proto.SerializeToString())
        constants = {tensor.name for tensor in copy.graph.initializer}
        names = [n for node in copy.graph.node if node.op_type in operators for n in [*node.input, *node.output]]
        self.given = {value.name for value in copy.graph.input}
        names = [name for name in dict.fromkeys(names) if name and name not in constants | self.given]
        have = {value.name for value in copy.graph.output}
        copy.graph.output.extend(type(copy.graph.input[0])(name=name) for name in names if name not in have)
        self.names = names
        self.running = session(from_proto(copy), optimize=False)

    def run(self, rows: Any) -> Iterator[dict[str, Array]]:
        """The activations and inputs of one batch after another that are float and have values."""
        for feeds in batches(self.running, rows, self._affordable(rows)):
            values = {**self._outputs(feeds), **feeds}
            yield {name: one for name, one in values.items() if _is_float(one)}

    def _affordable(self, rows: Any) -> int:
        """How many rows' activations fit into MEMORY_BYTES, found with one row."""
        outputs = self._outputs(next(batches(self.running, rows, 1))).values()
        used = sum(one.nbytes for one in outputs if isinstance(one, np.ndarray))
        return int(np.clip(MEMORY_BYTES // max(1, used), 1, ROWS))

    def _outputs(self, feeds: Mapping[str, Array]) -> dict[str, Any]:
        if not self.names:
            return {}
        try:
            return dict(zip(self.names, self.running.run(self.names, dict(feeds)), strict=True))
        except Exception as error:
            raise StepError(f"ONNX Runtime does not run the model: {error}") from error


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype in (np.float32, np.float16) and value.size > 0


def _fitting(takes: Any, arrays: Mapping[str, Array]) -> Array:
    if takes.name not in arrays:
        raise StepError(f"the calibration rows lack the input {takes.name!r}; they have {', '.join(sorted(arrays))}")
    if takes.type not in DTYPES:
        raise StepError(f"the input {takes.name!r} is of type {takes.type}, which is not supported")
    array = np.asarray(arrays[takes.name])
    wanted, shape = takes.shape[1:], array.shape[1:]
    if len(wanted) != len(shape) or any(
        isinstance(want, int) and want != got for want, got in zip(wanted, shape, strict=True)
    ):
        raise StepError(f"the calibration rows are of shape {shape}; the input {takes.name!r} takes {tuple(wanted)}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise StepError(f"the calibration rows hold NaN or infinite values (input {takes.name!r})")
    return array.astype(DTYPES[takes.type], copy=False)


def _histograms(watched: _Watched, rows: Any, extremes: Ranges) -> dict[str, Array]:
    """Counts in BINS equal bins between each tensor's extremes; tensors of one value or without bounds have none."""
    spans = {name: span for name, span in extremes.items() if np.isfinite(span).all() and span[0] < span[1]}
    counts = {name: np.zeros(BINS, np.int64) for name in spans}
    for values in watched.run(rows):
        for name, span in spans.items():
            if name in values:
                counts[name] += np.histogram(values[name].astype(np.float64), BINS, span)[0]
    return counts


def _percentile_clip(counts: Array, span: tuple[float, float], settings: StaticSettings) -> tuple[float, float]:
    edges = np.linspace(*span, BINS + 1)
    below = np.cumsum(counts) / counts.sum()
    tail = (100 - settings.percentile) / 200
    low = edges[int(np.searchsorted(below, tail, side="right"))]
    high = edges[min(BINS, int(np.searchsorted(below, 1 - tail)) + 1)]
    return float(low), float(high)


def _entropy_clip(counts: Array, span: tuple[float, float], settings: StaticSettings) -> tuple[float, float]:
    """Of too few values to fill a histogram finer than the levels, the whole span: their gaps are no information."""
    bins = min(BINS, 1 << int(np.log2(max(1, counts.sum() // FULL_BIN))))
    if bins <= LEVELS:
        return span
    edges = np.linspace(*span, BINS + 1)
    middles = np.abs((edges[1:] + edges[:-1]) / 2)
    limit = max(-span[0], span[1])
    sizes = np.histogram(middles, bins, (0, limit), weights=counts)[0]  # by absolute value
    limit *= entropy_threshold(sizes) / bins
    return max(span[0], -limit), min(span[1], limit)


def entropy_threshold(counts: Array, levels: int = LEVELS) -> int:
    """How many of the bins (values from 0 up) to keep, so that `levels` levels lose the least information.

    The bin next to zero counts as its neighbour does: a ReLU's zeros cost nothing in any case.
    """
    counts = counts.astype(np.float64)
    counts[0] = counts[1]
    best, least = len(counts), np.inf
    for kept in range(levels, len(counts) + 1, max(1, levels // 8)):
        inside = counts[:kept]
        reference = inside.copy()
        reference[-1] += counts[kept:].sum()
        group = np.arange(kept) * levels // kept
        filled = np.bincount(group, inside > 0, levels)
        means = np.divide(np.bincount(group, inside, levels), filled, out=np.zeros(levels), where=filled > 0)
        coarse = np.where(inside > 0, means[group], 0)
        loss = _divergence(reference, coarse)
        if loss < least:
            best, least = kept, loss
    return best


def _divergence(reference: Array, coarse: Array) -> float:
    """Kullback and Leibler's, in nats; bins that the coarse side lacks get a ten-thousandth of a count."""
    if reference.sum() == 0 or coarse.sum() == 0:
        return float("inf")
    p = reference / reference.sum()
    q = np.where((coarse == 0) & (p > 0), 1e-4, coarse)
    q = q / q.sum()
    at = p > 0
    return float((p[at] * np.log(p[at] / q[at])).sum())
