"""Rows of a model's inputs: one array, or for a model with several inputs an array for each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Columns:
    """Arrays by input name, each `(rows, ...)`; taking rows takes them of all."""

    arrays: Mapping[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, rows: slice | Array) -> Columns:
        return Columns({name: array[rows] for name, array in self.arrays.items()})


Rows = Array | Columns


def arrays_of(rows: Rows) -> Mapping[str, Array]:
    """The arrays by input name; the only input of a plain array has the name ""."""
    return rows.arrays if isinstance(rows, Columns) else {"": rows}


def like(rows: Rows, arrays: Mapping[str, Array]) -> Rows:
    """Arrays by input name in the form that `rows` have."""
    return Columns(arrays) if isinstance(rows, Columns) else arrays[""]


def repeated(rows: Rows, count: int) -> Rows:
    """The first `count` rows, from the start again where there are fewer."""
    return rows[np.arange(count) % len(rows)]


def shape_of(rows: Rows) -> list[int] | dict[str, list[int]]:
    """The shape of one row, by input where there are several."""
    if isinstance(rows, Columns):
        return {name: list(array.shape[1:]) for name, array in rows.arrays.items()}
    return list(rows.shape[1:])


def told(rows: Rows) -> str:
    """The shapes of rows, for people."""
    if isinstance(rows, Columns):
        return "shapes " + ", ".join(f"{name} {array.shape}" for name, array in rows.arrays.items())
    return f"shape {rows.shape}"
