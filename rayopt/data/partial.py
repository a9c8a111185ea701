"""Data some of whose rows have no label: those train too, where there is somebody to say what they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rayopt.data import sources
from rayopt.data.dataset import Array, Dataset, Split, build, hash_of
from rayopt.data.rows import Columns
from rayopt.data.settings import DataSettings
from rayopt.errors import input_error

MISSING = -1  # in place of a class number; NaN in place of a quantity
Missing = int | float | str | None


@dataclass(frozen=True)
class Partial:
    """`data` holds the rows with labels; x and y all rows to train on, labels MISSING or NaN where there are none."""

    data: Dataset
    x: Array
    y: Array | None
    labeled_count: int

    @property
    def labeled_share(self) -> float:
        return self.labeled_count / len(self.x)


@dataclass(frozen=True)
class Sources:
    """Where rows come from: `unlabeled` are more rows without labels, `test` those to report on.

    missing: what stands in the targets of `data` for a label that is not there; NaN and None always do.
    """

    data: DataSettings
    unlabeled: DataSettings | None = None
    test: DataSettings | None = None
    missing: Missing = None


def load(given: Sources, folder: Path, seed: int, places: Mapping[str, str]) -> Partial:
    """Reads, checks and splits; raises InputError at the place of the source that is wrong."""
    x, y = _rows(given.data, folder, places["data"])
    known = np.ones(len(x), bool) if y is None else _known(y, given.missing)
    if not known.any():
        y, known = None, np.ones(len(x), bool)
    x_known, y_known = x[known], None if y is None else _narrowed(y[known])
    others = [x[~known]]
    if given.unlabeled is not None:
        more = _rows(given.unlabeled, folder, places["unlabeled"])[0]
        if more.shape[1:] != x.shape[1:]:
            problem = f"has rows of shape {more.shape[1:]}, the data of {x.shape[1:]}"
            raise input_error(places["unlabeled"], problem, "give rows for the same model")
        others.append(more)
    for one in others:
        if one.dtype.kind == "f" and not np.isfinite(one).all():
            raise input_error(places["unlabeled"], "some rows have NaN or infinite features", "drop or impute them")
    name = Path(given.data.source).name
    data = build(name, x_known, y_known, given.data.task, given.data.split, seed, places["data"])
    if given.test is not None:
        data = _with_test(data, given.test, folder, places["test"])
    train = data["train"]
    rows = np.concatenate([np.asarray(train.x), *others])
    return Partial(data, rows, _targets(train.y, len(rows)), 0 if train.y is None else len(train))


def _rows(settings: DataSettings, folder: Path, place: str) -> tuple[Array, Array | None]:
    x, y = sources.rows(settings, folder, place)
    if isinstance(x, Columns):
        raise input_error(place, "holds several arrays of features", "name one in `features:`")
    return x, y


def _known(y: Array, missing: Missing) -> Array:
    """Which rows have a label."""
    flat = y.reshape(len(y), -1)
    if y.dtype.kind == "O":
        return np.array([all(one is not None and one == one and one != missing for one in row) for row in flat])
    known: Array = np.asarray(np.isfinite(flat).all(axis=1)) if y.dtype.kind == "f" else np.ones(len(y), bool)
    if missing is not None:
        known = known & (flat != missing).all(axis=1)
    return known


def _narrowed(y: Array) -> Array:
    """Class numbers as whole numbers again, where it was only the missing ones that made them floats."""
    if y.dtype.kind == "f" and np.array_equal(y, np.trunc(y)) and len(np.unique(y)) <= max(20, int(y.size**0.5)):
        return y.astype(np.int64)
    return y


def _with_test(data: Dataset, settings: DataSettings, folder: Path, place: str) -> Dataset:
    """The data with rows of another source to report on; what was split off for that trains."""
    x, y = _rows(settings, folder, place)
    if y is None and data.task != "unlabeled":
        raise input_error(place, "has no targets", "name the `target:`")
    train, test = data["train"], data["test"]
    if x.shape[1:] != np.asarray(train.x).shape[1:]:
        problem = f"has rows of shape {x.shape[1:]}, the data of {np.asarray(train.x).shape[1:]}"
        raise input_error(place, problem, "give rows for the same model")
    if data.task == "classification":
        numbers = {name: number for number, name in enumerate(data.classes)}
        unknown = sorted({str(one) for one in np.unique(y)} - set(numbers))  # type: ignore[arg-type]
        if unknown:
            raise input_error(place, f"has a class that the data has not: {unknown[0]}", "give the same classes")
        y = np.vectorize(lambda one: numbers[str(one)], otypes=[np.int64])(y)
    elif y is not None:
        y = y.astype(np.float32)
    joined = None if train.y is None or test.y is None else np.concatenate([train.y, test.y])
    splits = dict(data.splits) | {
        "train": Split(np.concatenate([np.asarray(train.x), np.asarray(test.x)]), joined),
        "test": Split(x, y),
    }
    return replace(data, splits=splits, sha256=hash_of(splits, data.classes))


def _targets(y: Array | None, rows: int) -> Array | None:
    """Labels of the first rows, and none for the others."""
    if y is None:
        return None
    missing = MISSING if y.dtype.kind == "i" else np.nan
    return np.concatenate([y, np.full((rows - len(y), *y.shape[1:]), missing, y.dtype)])
