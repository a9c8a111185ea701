"""What the workers of a training agree on, and the random numbers that each of them draws."""

from __future__ import annotations

import torch

from rayopt.training.seat import Seat


def seed_step(seed: int, step: int, rank: int) -> None:
    """The random numbers of a step, such as dropout's, are a function of seed, step and worker: none need be kept."""
    number = (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + rank * 0x8CB92BA72F3D8DD7) % 2**63
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_available():
        torch.cuda.manual_seed(number)


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
