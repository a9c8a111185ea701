"""Who may evaluate the cells of a search, who is told of what it does, and who adds to it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rayopt.search.cells import Cell, Own, Result
from rayopt.search.hire import Open


@dataclass(frozen=True)
class Means:
    """Who may evaluate cells.

    open_ray: makes the crew of a Ray, None for none; ray_runs: whether that one is there already; ray_alone: all is
    evaluated there, which is waited for. deadline_s: how long one evaluation may take; needs a crew, as this process
    cannot be ended. in_process: everything in this process.
    """

    open_ray: Open | None = None
    ray_runs: bool = False
    ray_alone: bool = False
    in_process: bool = False
    deadline_s: float | None = None
    share_prefixes: bool = True
    own: Own = field(default_factory=Own)
    cpus: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))


class Progress:
    """Is told what a search does; all of it may be left out. Called from one thread at a time."""

    def round_read(self, cells: Sequence[Cell]) -> None:
        """A round with these cells begins."""

    def crew_joined(self, name: str, seconds: float) -> None:
        """Others evaluate too, so many seconds after they were called."""

    def cell_ended(self, cell: Cell, result: Result, cached: bool, left_s: float | None) -> None:
        """A cell has its result; the rest takes about `left_s` (None: not known yet)."""

    def note(self, text: str) -> None:
        """Something for the log."""


class Growth:
    """A round whose candidates are not all known when it begins."""

    def after(self, cell: Cell, result: Result) -> Sequence[Mapping[str, Any]]:
        """The parameters of further candidates, now that a cell has its result. Called from one thread at a time."""
        return ()

    def to_come(self) -> int:
        """How many more candidates there may be."""
        return 0
