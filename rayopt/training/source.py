"""What a training reads: rows by their numbers, epoch by epoch."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rayopt.data.dataset import Split
from rayopt.data.rows import Columns
from rayopt.errors import StepError

Array = np.ndarray[Any, Any]


class Source(Protocol):
    """`batch` gives features, targets, and the numbers by which the objective knows the rows, in that epoch."""

    @property
    def count(self) -> int: ...

    def batch(self, epoch: int, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]: ...


@dataclass(frozen=True)
class Arrays:
    """Rows in memory; x `(rows, *features)`, y `(rows, ...)`. The same in every epoch."""

    x: Array
    y: Array

    @property
    def count(self) -> int:
        return len(self.x)

    @cached_property
    def sha256(self) -> str:
        """A hash of all rows."""
        return hash_of(self.x, self.y)

    def batch(self, epoch: int, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._tensors[0][rows], self._tensors[1][rows], rows

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        return seen(self.x), seen(self.y)

    def __getstate__(self) -> dict[str, Any]:
        return {"x": self.x, "y": self.y}


def seen(array: Array) -> Tensor:
    """The same memory as a tensor that nobody writes to: the workers of a machine share what Ray holds for them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, that it might be written to
        return torch.from_numpy(np.ascontiguousarray(array))


def labeled(split: Split) -> Arrays:
    """The rows of a split, whose model takes one array and which have labels."""
    if split.y is None or isinstance(split.x, Columns):
        raise StepError("rows to train on are one array of features, and have labels")
    return Arrays(split.x, split.y)


def hash_of(*arrays: Array | None) -> str:
    """A hash of what arrays hold."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(b"none" if array is None else f"{array.shape} {array.dtype.str}".encode())
        if array is not None:
            total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return total.hexdigest()
