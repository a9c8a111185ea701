"""The seam to where training runs: a Seat for each worker, a Host that fills them; and the only worker of a process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

if TYPE_CHECKING:
    from rayopt.training.learner import Learner
    from rayopt.training.loop import Trained, Work

OnReport = Callable[[Mapping[str, float]], bool | None]  # True: stop here


class Seat(Protocol):
    """A worker's place: its rank among `world`, its device, and the folder in which rank 0 writes checkpoints.

    All workers see that folder. `report` is called by all; rank 0's metrics and the checkpoint that it has just written
    count. It gives whether the training is to end now, the same in all of them. `wrap` makes the learner parallel.
    """

    rank: int
    world: int
    device: torch.device
    folder: Path

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None) -> bool: ...

    def wrap(self, learner: Learner) -> nn.Module: ...


class Host(Protocol):
    """Where several workers train; raises WorkError where they cannot, and what the work itself raises."""

    name: str

    def run(self, work: Work, workers: int | tuple[int, int], folder: Path, on_report: OnReport) -> Trained: ...

    def close(self) -> None: ...


@dataclass
class OneSeat:
    """The only worker, in this process."""

    folder: Path
    on_report: OnReport = lambda metrics: None
    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: best_device())

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None) -> bool:
        return bool(self.on_report(metrics))

    def wrap(self, learner: Learner) -> nn.Module:
        return learner


def best_device() -> torch.device:
    """The first GPU where torch sees one."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
