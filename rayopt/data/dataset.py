"""A data set as four splits of arrays, with a hash over all of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rayopt.data.settings import SplitSettings
from rayopt.errors import Fault, InputError, input_error

Array = npt.NDArray[Any]
Task = Literal["classification", "regression"]
SPLITS = ("train", "calibration", "selection", "test")


@dataclass(frozen=True)
class Split:
    """Rows of one split: x `(rows, *features)`; y `(rows,)`, class numbers or float32 targets."""

    x: Array
    y: Array

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """train fits, calibration sets quantisation ranges, selection chooses, test is read once to report."""

    name: str
    task: Task
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    sha256: str

    @property
    def outputs_count(self) -> int:
        """The number of outputs that a model of this data has: one per class, or one."""
        return len(self.classes) if self.task == "classification" else 1

    def __getitem__(self, split: str) -> Split:
        return self.splits[split]


def build(name: str, x: Array, y: Array, task: str, split: SplitSettings, seed: int, place: str) -> Dataset:
    """Checks arrays and splits them; raises InputError with every fault found."""
    faults = _shape_faults(x, y, place)
    if faults:
        raise InputError(faults)
    found_task: Task = _infer_task(y) if task == "auto" else task  # type: ignore[assignment]
    faults = _value_faults(x, y, found_task, place)
    if faults:
        raise InputError(faults)
    classes: tuple[str, ...] = ()
    if found_task == "classification":
        values, y = np.unique(y, return_inverse=True)
        classes = tuple(str(value) for value in values)
        y = y.astype(np.int64)
    else:
        y = y.astype(np.float32)
    parts = _split_rows(y if classes else None, len(y), split, seed, place)
    splits = {part: Split(_fixed(x[rows]), _fixed(y[rows])) for part, rows in parts.items()}
    return Dataset(name, found_task, classes, splits, _hash(splits, classes))


def _infer_task(y: Array) -> Task:
    """Text, booleans and few whole numbers are classes; everything else is a quantity."""
    if y.dtype.kind in "OUSb":
        return "classification"
    if y.dtype.kind in "iu" and len(np.unique(y)) <= max(20, int(len(y) ** 0.5)):
        return "classification"
    return "regression"


def _shape_faults(x: Array, y: Array, place: str) -> list[Fault]:
    faults = []
    if x.dtype.kind not in "fiub":
        faults.append(Fault(place, f"features are of type {x.dtype}", "give numbers"))
    if x.ndim < 2:
        faults.append(Fault(place, f"features have shape {x.shape}", "give one row per example: (rows, features...)"))
    if y.ndim == 2 and y.shape[1] == 1:
        faults.append(Fault(place, f"the target has shape {y.shape}", "give shape (rows,); flatten it"))
    elif y.ndim != 1:
        faults.append(Fault(place, f"the target has shape {y.shape}", "give one value per row: (rows,)"))
    if x.ndim and y.ndim and len(x) != len(y):
        faults.append(Fault(place, f"there are {len(x)} rows of features but {len(y)} targets", "make them match"))
    return faults


def _fixed(array: Array) -> Array:
    """The array as no step may change it: on another machine it comes from shared memory, here it must not differ."""
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array


def _value_faults(x: Array, y: Array, task: Task, place: str) -> list[Fault]:
    faults = []
    features = tuple(range(1, x.ndim))
    bad = 0 if x.dtype.kind in "iub" else int((~np.isfinite(x)).any(axis=features).sum())
    if bad:
        faults.append(Fault(place, f"{bad} of {len(x)} rows have NaN or infinite features", "drop or impute them"))
    faults += _target_faults(y, place)
    if not faults and task == "classification" and len(np.unique(y)) == 1:
        faults.append(Fault(place, f"the target has a single class ({y[0]})", "give at least two classes"))
    if task == "regression" and y.dtype.kind not in "fiub":
        faults.append(Fault(place, f"targets of type {y.dtype} cannot be regressed", "set `task: classification`"))
    return faults


def _target_faults(y: Array, place: str) -> list[Fault]:
    if y.dtype.kind == "f":
        with np.errstate(over="ignore"):
            bad = int((~np.isfinite(y.astype(np.float32))).sum())
        return [Fault(place, f"{bad} of {len(y)} targets are NaN or infinite", "drop those rows")] if bad else []
    if y.dtype.kind != "O":
        return []
    if any(value is None or (isinstance(value, float) and math.isnan(value)) for value in y):
        return [Fault(place, "some targets are missing", "drop those rows")]
    kinds = {type(value) for value in y}
    if len(kinds) == 1 and isinstance(y[0], str | bytes | bool | int | float | np.generic):
        return []
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    return [Fault(place, f"the targets are of type {names}", "give all as text, or all as numbers")]


def _split_rows(labels: Array | None, rows: int, split: SplitSettings, seed: int, place: str) -> dict[str, Array]:
    """Row numbers of each split, each class in its share (largest remainder), the same for the same seed."""
    shares = {"test": split.test, "selection": split.selection, "calibration": split.calibration}
    if split.problem:
        raise input_error(place, split.problem, "leave at least 5 % to train on")
    minimum = max(20, 4 * (int(labels.max()) + 1 if labels is not None else 1))
    if rows < minimum:
        raise input_error(place, f"has {rows} rows, fewer than the splits need ({minimum})", "give more data")
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


def _hash(splits: Mapping[str, Split], classes: tuple[str, ...]) -> str:
    total = hashlib.sha256(repr(classes).encode())
    for part in SPLITS:
        for array in (splits[part].x, splits[part].y):
            total.update(f"{part} {array.shape} {array.dtype.str}".encode())
            total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
