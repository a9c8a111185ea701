"""What the workers of a training agree on, and the random numbers that each of them draws."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from rayopt.training.learner import OwnObjective
from rayopt.training.seat import Seat

KNOWN = ("torch", "rayopt", "builtins")


@dataclass(frozen=True)
class Seeding:
    """A worker's random numbers step by step; has_own: code of the user's own may draw from Python's and NumPy's."""

    seed: int
    rank: int
    has_own: bool

    def step(self, count: int) -> None:
        number = seed_step(self.seed, count, self.rank)
        if self.has_own:  # it takes 10 to 20 microseconds, which the steps of a small model feel
            random.seed(number)
            np.random.seed(number % 2**32)


def has_own(module: nn.Module, objective: nn.Module, rows: Any) -> bool:
    """Whether there are classes among model, loss and data that are neither torch's nor ours, or a loss's function."""
    parts = [rows, *module.modules(), *objective.modules()]
    is_own = any(type(one).__module__.partition(".")[0] not in KNOWN for one in parts)
    return is_own or isinstance(objective, OwnObjective)


def seed_step(seed: int, step: int, rank: int) -> int:
    """The random numbers of a step, such as dropout's, are a function of seed, step and worker: none need be kept.

    Gives the number that the generators were seeded by.
    """
    number = (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + rank * 0x8CB92BA72F3D8DD7) % 2**63
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(number)
    return number


def from_first(value: float, seat: Seat) -> float:
    """The first worker's value in all of them."""
    if seat.world == 1:
        return value
    tensor = torch.tensor([value], dtype=torch.float64, device=seat.device)
    torch.distributed.broadcast(tensor, 0)
    return float(tensor)


def mean(value: float, seat: Seat) -> float:
    """The mean over all workers."""
    if seat.world == 1:
        return value
    tensor = torch.tensor([value], dtype=torch.float64, device=seat.device)
    torch.distributed.all_reduce(tensor)
    return float(tensor) / seat.world
