"""Works that workers of a group are given in tests; a module of its own, for they import it by name."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass
class Facts:
    """Says who does it; in a worker of rank `faulty` it raises."""

    faulty: int | None = None

    def run(self, seat: Any) -> dict[str, Any]:
        if seat.rank == self.faulty:
            raise ValueError("row 7 is broken")
        total = torch.ones(1)
        dist.all_reduce(total)
        return {
            "pid": os.getpid(), "rank": seat.rank, "world": seat.world, "total": total.item(),
            "device": str(seat.device), "backend": dist.get_backend(), "threads": torch.get_num_threads(),
        }  # fmt: skip


@dataclass
class Gradients:
    """The gradients of one batch of which each worker has a half, with the model made parallel in the seat's way."""

    x: Tensor
    y: Tensor

    def run(self, seat: Any) -> list[Any]:
        model = network()
        parallel = seat.wrap(model)
        part = slice(seat.rank, None, seat.world)
        nn.functional.cross_entropy(parallel(self.x[part]), self.y[part]).backward()
        grads = [parameter.grad for parameter in model.parameters()]
        return [(grad.full_tensor() if hasattr(grad, "full_tensor") else grad).numpy() for grad in grads]


@dataclass
class Locked:
    """Cannot be sent anywhere."""

    parts: dict[str, Any]

    @classmethod
    def make(cls) -> Locked:
        model = network()
        model[1].guard = threading.Lock()  # type: ignore[assignment]
        return cls({"model": model})

    def run(self, seat: Any) -> None: ...


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
