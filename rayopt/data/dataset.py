"""A data set as four splits of arrays, with a hash over all of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rayopt.data.rows import Rows, arrays_of, like
from rayopt.data.settings import SplitSettings
from rayopt.errors import Fault, InputError, input_error

Array = npt.NDArray[Any]
Task = Literal["classification", "regression", "unlabeled"]
SPLITS = ("train", "calibration", "selection", "test")
LEAST_UNLABELED = 8


@dataclass(frozen=True)
class Split:
    """Rows of one split: x `(rows, *features)`; y `(rows, ...)`, class numbers or float32 targets, or no labels."""

    x: Rows
    y: Array | None

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Dataset:
    """train fits, calibration sets quantisation ranges, selection chooses, test is read once to report.

    `generated` rows stand in where the job has no data: they can prove a model equal, but not good.
    """

    name: str
    task: Task
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    sha256: str
    generated: bool = False

    @property
    def output_shape(self) -> tuple[int, ...] | None:
        """The shape of a model's output for one row: one per class, or as the targets are; None without labels."""
        y = self.splits["train"].y
        if y is None:
            return None
        if self.task == "classification":
            return (len(self.classes), *y.shape[1:])
        return y.shape[1:] or (1,)

    def __getitem__(self, split: str) -> Split:
        return self.splits[split]


def build(
    name: str,
    x: Rows,
    y: Array | None,
    task: str,
    split: SplitSettings,
    seed: int,
    place: str,
    generated: bool = False,
) -> Dataset:
    """Checks arrays and splits them; raises InputError with every fault found."""
    faults = [fault for part, array in arrays_of(x).items() for fault in _feature_faults(array, part, place)]
    faults += _count_faults(x, y, place)
    if faults:
        raise InputError(faults)
    found_task: Task = _infer_task(y) if task == "auto" else task  # type: ignore[assignment]
    faults = [fault for part, array in arrays_of(x).items() for fault in _value_faults(array, part, place)]
    faults += _target_faults(y, found_task, place)
    if faults:
        raise InputError(faults)
    classes: tuple[str, ...] = ()
    if found_task == "unlabeled" or y is None:
        y = None
    elif found_task == "classification":
        values, numbers = np.unique(y, return_inverse=True)
        classes = tuple(str(value) for value in values)
        y = numbers.reshape(y.shape).astype(np.int64)
    else:
        y = y.astype(np.float32)
    labels = y if classes and y is not None and y.ndim == 1 else None  # maps of classes are split as they come
    least = LEAST_UNLABELED if y is None else max(20, 4 * len(classes) if labels is not None else 4)
    parts = _split_rows(labels, len(x), least, split, seed, place)
    splits = {part: Split(_taken(x, rows), None if y is None else _fixed(y[rows])) for part, rows in parts.items()}
    return Dataset(name, found_task, classes, splits, hash_of(splits, classes), generated)


def _infer_task(y: Array | None) -> Task:
    """Text, booleans and few whole numbers are classes; everything else is a quantity."""
    if y is None:
        return "unlabeled"
    if y.dtype.kind in "OUSb":
        return "classification"
    if y.dtype.kind in "iu" and len(np.unique(y)) <= max(20, int(y.size**0.5)):
        return "classification"
    return "regression"


def _feature_faults(x: Array, name: str, place: str) -> list[Fault]:
    what = f"features {name!r}" if name else "features"
    faults = []
    if x.dtype.kind not in "fiub":
        faults.append(Fault(place, f"{what} are of type {x.dtype}", "give numbers"))
    if x.ndim < (1 if name else 2):
        faults.append(Fault(place, f"{what} have shape {x.shape}", "give one row per example: (rows, features...)"))
    return faults


def _count_faults(x: Rows, y: Array | None, place: str) -> list[Fault]:
    """Whether features and targets have the same rows."""
    faults = []
    counts = {name: len(array) for name, array in arrays_of(x).items() if array.ndim}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
        faults.append(Fault(place, f"the features have different numbers of rows: {told}", "make them match"))
    if y is None:
        return faults
    if y.ndim == 2 and y.shape[1] == 1:
        faults.append(Fault(place, f"the target has shape {y.shape}", "give shape (rows,); flatten it"))
    elif not y.ndim or (y.ndim > 1 and y.dtype.kind not in "fiub"):
        faults.append(Fault(place, f"the target has shape {y.shape}", "give one value per row: (rows,)"))
    if counts and y.ndim and len(x) != len(y):
        faults.append(Fault(place, f"there are {len(x)} rows of features but {len(y)} targets", "make them match"))
    return faults


def _taken(x: Rows, rows: Array) -> Rows:
    return like(x, {name: _fixed(array[rows]) for name, array in arrays_of(x).items()})


def _fixed(array: Array) -> Array:
    """The array as no step may change it: on another machine it comes from shared memory, here it must not differ."""
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array


def _value_faults(x: Array, name: str, place: str) -> list[Fault]:
    if x.dtype.kind in "iub":
        return []
    bad = int((~np.isfinite(x)).any(axis=tuple(range(1, x.ndim))).sum())
    what = f"NaN or infinite features{f' {name!r}' if name else ''}"
    return [Fault(place, f"{bad} of {len(x)} rows have {what}", "drop or impute them")] if bad else []


def _target_faults(y: Array | None, task: Task, place: str) -> list[Fault]:
    if task == "unlabeled":
        return []
    if y is None:
        return [Fault(place, f"there are no targets for {task}", "name the `target:`, or set `task: unlabeled`")]
    faults = _odd_targets(y, place)
    if not faults and task == "classification" and len(np.unique(y)) == 1:
        faults.append(Fault(place, f"the target has a single class ({y.flat[0]})", "give at least two classes"))
    if task == "regression" and y.dtype.kind not in "fiub":
        faults.append(Fault(place, f"targets of type {y.dtype} cannot be regressed", "set `task: classification`"))
    return faults


def _odd_targets(y: Array, place: str) -> list[Fault]:
    """Targets that are missing, not finite, or of several types."""
    if y.dtype.kind == "f":
        with np.errstate(over="ignore"):
            bad = int((~np.isfinite(y.astype(np.float32))).sum())
        return [Fault(place, f"{bad} of {y.size} targets are NaN or infinite", "drop those rows")] if bad else []
    if y.dtype.kind != "O":
        return []
    if any(value is None or (isinstance(value, float) and math.isnan(value)) for value in y):
        return [Fault(place, "some targets are missing", "drop those rows")]
    kinds = {type(value) for value in y}
    if len(kinds) == 1 and isinstance(y[0], str | bytes | bool | int | float | np.generic):
        return []
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    return [Fault(place, f"the targets are of type {names}", "give all as text, or all as numbers")]


def _split_rows(
    labels: Array | None, rows: int, least: int, split: SplitSettings, seed: int, place: str
) -> dict[str, Array]:
    """Row numbers of each split, each class in its share (largest remainder), the same for the same seed."""
    shares = {"test": split.test, "selection": split.selection, "calibration": split.calibration}
    if split.problem:
        raise input_error(place, split.problem, "leave at least 5 % to train on")
    if rows < least:
        raise input_error(place, f"has {rows} rows, fewer than the splits need ({least})", "give more data")
    generator = np.random.default_rng(seed)
    order = generator.permutation(rows)
    if labels is not None:
        order = _spread_classes(order, labels)
    taken: dict[str, Array] = {}
    start = 0
    for part, share in shares.items():
        count = max(1, round(share * rows))
        taken[part] = np.sort(order[start : start + count])
        start += count
    taken["train"] = np.sort(order[start:])
    if not len(taken["train"]):
        raise input_error(
            place, f"the splits leave none of {rows} rows to train on", "make them smaller, or give more data"
        )
    return {part: taken[part] for part in SPLITS}


def _spread_classes(order: Array, labels: Array) -> Array:
    """A permutation in which every run of rows holds the classes in about their overall shares."""
    position = np.empty(len(order))
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        position[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    by_position: Array = np.lexsort((rank, position))
    return by_position


def hash_of(splits: Mapping[str, Split], classes: tuple[str, ...]) -> str:
    total = hashlib.sha256(repr(classes).encode())
    for part in SPLITS:
        y = splits[part].y
        for name, array in (*arrays_of(splits[part].x).items(), *([] if y is None else [("", y)])):
            total.update(f"{part}{name and f' {name}'} {array.shape} {array.dtype.str}".encode())
            total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
