"""When a training writes its checkpoints, and the one that all its workers go on from."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rayopt.errors import input_error
from rayopt.training import checkpoint
from rayopt.training.agree import from_first
from rayopt.training.checkpoint import Checkpoint, Writer
from rayopt.training.seat import Seat
from rayopt.training.settings import CheckpointSettings

SAVE_S = 1.0  # between checkpoints at the ends of epochs, where nothing is said: short epochs would be spent on them
ASKED = 8  # steps between two looks at the first worker's clock, where all workers must write together
log = logging.getLogger("rayopt")


class Saving:
    """The checkpoints of one worker's run; the first one writes them."""

    def __init__(self, seat: Seat, about: Mapping[str, Any], every: CheckpointSettings) -> None:
        self._seat, self._about, self._every = seat, about, every
        self._writer = Writer(seat.folder)
        self._at, self._step = time.monotonic(), 0
        self._is_shared = False

    def found(self) -> Checkpoint | None:
        """The checkpoint to go on from, the first worker's choice; raises InputError where another does not see it."""
        seat = self._seat
        found = checkpoint.latest(seat.folder, self._about, log.warning) if seat.rank == 0 else None
        if seat.world == 1:
            return found
        step = int(from_first(float(found.step if found else -1), seat))
        mark = int(from_first(float(_mark(found)), seat))
        if seat.rank and step >= 0:
            found = checkpoint.read(seat.folder, step, log.warning)
        if _mark(found) != mark:
            problem = f"worker {seat.rank} does not find the checkpoint of step {step} that the first one goes on from"
            raise input_error(str(seat.folder), problem, "give a folder that all machines see")
        return found

    def begin(self, step: int, is_shared: bool) -> None:
        """Counts from now on; is_shared: all workers write together, as each holds a part of the model."""
        self._at, self._step, self._is_shared = time.monotonic(), step, is_shared

    @property
    def is_asked_for(self) -> bool:
        """Whether checkpoints are wanted within an epoch."""
        return bool(self._every.every_steps or self._every.every_s)

    def is_due(self, step: int) -> bool:
        """Whether it is time for a checkpoint, at the end of an epoch where the settings say nothing.

        Workers that write together must agree, and their clocks differ: the first one's counts, now and then.
        """
        every = self._every
        if every.every_steps is not None and step - self._step >= every.every_steps:
            return True
        every_s = SAVE_S if every.every_steps is None and every.every_s is None else every.every_s
        if every_s is None:
            return False
        is_due = time.monotonic() - self._at >= every_s
        if not self._is_shared:
            return is_due
        return step % ASKED == 0 and bool(from_first(float(is_due), self._seat))

    def write(self, step: int, state: Mapping[str, Any]) -> Path | None:
        """Writes a checkpoint; gives its folder in the worker that wrote it."""
        self._at, self._step = time.monotonic(), step
        return None if self._seat.rank else self._writer.write(step, state, self._about)

    @property
    def last(self) -> str:
        """What there is to go on from, in words."""
        step = checkpoint.newest(self._seat.folder)
        return f"the last good checkpoint is of step {step}" if step else "there is no checkpoint yet"


def _mark(found: Checkpoint | None) -> int:
    """A number by which to tell checkpoints apart, which a float holds exactly."""
    return int(found.sha256[:12], 16) if found else 0
