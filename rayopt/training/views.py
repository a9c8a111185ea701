"""Views: changed copies of rows. View 0 is the rows themselves; each is a pure function of seed, number and block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rayopt.errors import Fault
from rayopt.training.distill_settings import ViewSettings
from rayopt.training.teacher import Stored

Array = np.ndarray[Any, Any]


def faults(settings: ViewSettings, x: Array, place: str) -> list[Fault]:
    """Whether such views can be made of rows like x."""
    found = []
    if settings.shift and x.ndim != 4:
        problem = f"`shift` is for images (rows, channels, height, width), not for rows of shape {x.shape[1:]}"
        found.append(Fault(place, problem, "leave it out"))
    elif settings.shift and settings.shift >= min(x.shape[2:]):
        problem = f"a shift by {settings.shift} moves images of {x.shape[2]} x {x.shape[3]} out of sight"
        found.append(Fault(place, problem, "give less"))
    if x.dtype.kind != "f" and (settings.mix or settings.noise):
        found.append(Fault(place, f"features of type {x.dtype} cannot be blended", "leave `mix` and `noise` out"))
    if settings.mix and settings.teacher == "clean":
        problem = "the teacher's answer to a row is none to its blend with another"
        found.append(Fault(place, problem, "leave `mix` or `teacher: clean` out"))
    if settings.count > 1 and not (settings.mix or settings.shift or settings.noise):
        problem = f"{settings.count} views are all the same"
        found.append(Fault(place, problem, "say how they differ: `mix: true`, `shift:` or `noise:`"))
    return found


def block(settings: ViewSettings, x: Array, seed: int, number: int, rows: slice) -> Array:
    """A block of view `number` of all rows x; the same wherever it is made."""
    taken = x[rows]
    if number == 0:
        return taken
    generator = np.random.default_rng([seed, number])
    count = len(x)
    offsets = generator.integers(-settings.shift, settings.shift + 1, (count, 2))
    partners, shares = generator.permutation(count), generator.uniform(0.5, 1.0, count)
    taken = _shifted(taken, offsets[rows]) if settings.shift else taken
    if settings.mix:
        others = x[partners[rows]]
        others = _shifted(others, offsets[partners[rows]]) if settings.shift else others
        share = shares[rows].reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype)
        taken = share * taken + (1 - share) * others
    if settings.noise:
        drawn = np.random.default_rng([seed, number, rows.start]).standard_normal(taken.shape, dtype=np.float32)
        taken = taken + (settings.noise * float(x.std())) * drawn.astype(x.dtype)
    return np.ascontiguousarray(taken)


@dataclass(frozen=True)
class ViewedRows:
    """The source of a training whose epochs go through the views in turn: x `(views * rows, ...)`, y `(rows, ...)`.

    Rows are numbered through all views. Where views have lost their labels, y is `missing` in all but view 0.
    """

    x: Array | Stored
    y: Array
    views: int = 1
    missing: float | None = None

    @property
    def count(self) -> int:
        return len(self.y)

    def batch(self, epoch: int, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        view = epoch % self.views
        numbers = rows + view * self.count
        x = self.x.array if isinstance(self.x, Stored) else self.x
        targets = torch.from_numpy(self.y[rows.numpy()])
        if view and self.missing is not None:
            targets.fill_(self.missing)
        return torch.from_numpy(x[numbers.numpy()]), targets, numbers


def keeps_labels(settings: ViewSettings) -> bool:
    """Whether a view's rows still have the labels of the rows that they were made of."""
    return not settings.mix


def _shifted(images: Array, offsets: Array) -> Array:
    """Images `(rows, channels, height, width)`, each moved by its own offset; what comes in is 0."""
    height, width = images.shape[2:]
    most = int(np.abs(offsets).max(initial=0))
    padded = np.pad(images, ((0, 0), (0, 0), (most, most), (most, most)))
    down = (most - offsets[:, 0])[:, None] + np.arange(height)  # (rows, height)
    right = (most - offsets[:, 1])[:, None] + np.arange(width)
    rows = np.arange(len(images))[:, None, None]
    moved: Array = padded[rows, :, down[:, :, None], right[:, None, :]].transpose(0, 3, 1, 2)
    return moved


def by_default(x: Array) -> ViewSettings:
    """Small shifts of images, an eighth of the epochs each; none of anything else."""
    if x.ndim != 4 or x.dtype.kind != "f":
        return ViewSettings()
    return ViewSettings(count=8, shift=max(1, min(x.shape[2:]) // 14))
