"""Works that workers of a group are given in tests; a module of its own, for they import it by name."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rayopt.training.learner import Learner, TaskObjective
from rayopt.training.source import Arrays


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
        parallel = seat.wrap(Learner(model, TaskObjective()))
        part = slice(seat.rank, None, seat.world)
        parallel(self.x[part], self.y[part], torch.arange(len(self.x))[part]).backward()
        grads = [parameter.grad for parameter in model.parameters()]
        return [(grad.full_tensor() if hasattr(grad, "full_tensor") else grad).numpy() for grad in grads]


@dataclass
class Shared:
    """Whether the rows that are trained on lie in the object store's memory, which no worker may write to."""

    rows: Arrays

    def run(self, seat: Any) -> bool:
        x, _ = self.rows._tensors
        return not self.rows.x.flags.writeable and x.data_ptr() == self.rows.x.ctypes.data


@dataclass(frozen=True)
class Faulty(Arrays):
    """Rows that raise, or are not finite, where the second worker asks for them after 12 steps' batches."""

    fault: str = ""

    def batch(self, epoch: int, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, y, numbers = super().batch(epoch, rows)
        count = self.__dict__["count_"] = self.__dict__.get("count_", 0) + 1
        if dist.get_rank() == 1 and count > 24:  # two micro-batches a step
            if self.fault == "raises":
                raise OSError("the disk is gone")
            x = x * float("nan")
        return x, y, numbers

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "fault": self.fault}


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


def first_column(targets: Any, outputs: Any) -> float:
    """A metric: how near the first column of the outputs is, on average."""
    return float(1 / (1 + abs(outputs[:, 0] - targets).mean()))
