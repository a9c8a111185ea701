"""Distributed training as one writes it by hand for torchrun; it takes its turns when a file asks for them.

    torchrun --standalone --nproc-per-node 2 train_by_hand.py FOLDER

`FOLDER/go.N` holds `{"model", "batch", "epochs", "rows"}`; `FOLDER/done.N` gets the samples a second from the first
step on. `FOLDER/stop` ends it.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rayopt.data.sources import SETS
from rayopt.models import zoo


def network(name: str, seed: int = 0) -> nn.Module:
    """`cnn`: two convolutions and two linear layers, 421,642 parameters; `mlp`: 26,506."""
    torch.manual_seed(seed)
    if name == "mlp":
        return nn.Sequential(nn.Flatten(), zoo.mlp(784, 10, hidden=32))
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


class Trainer:
    """A model with its optimizer and schedule; `epoch` goes once through this rank's share of every batch."""

    def __init__(self, name: str, batch: int, wrap: Callable[[nn.Module], nn.Module] = DistributedDataParallel) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.model = wrap(network(name))
        parameters = self.model.parameters()
        self.optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, 0.05, total_steps=100_000)
        self.batch, self.count = batch, 0

    def epoch(self, x: Tensor, y: Tensor) -> None:
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(self.count))
        self.count += 1
        for rows in order.split(self.batch):
            mine = rows.chunk(self.world)[self.rank]
            loss = F.cross_entropy(self.model(x[mine]), y[mine])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()

    def rate(self, x: Tensor, y: Tensor, epochs: int) -> float:
        """Samples a second over so many epochs."""
        dist.barrier()
        start = time.perf_counter()
        for _ in range(epochs):
            self.epoch(x, y)
        dist.barrier()
        return epochs * len(x) / (time.perf_counter() - start)


@dataclass
class ByHand:
    """The same loop as a work for a group of ours."""

    model: str
    batch: int
    epochs: int
    rows: int
    x: Any
    y: Any

    def run(self, seat: Any) -> float:
        torch.set_num_threads(1)
        trainer = Trainer(self.model, self.batch, seat.wrap)
        x, y = torch.tensor(self.x[: self.rows]), torch.tensor(self.y[: self.rows])
        return trainer.rate(x, y, self.epochs)


@dataclass
class Reports:
    """Milliseconds that a report takes the first worker, the median of so many."""

    count: int = 200

    def run(self, seat: Any) -> float:
        times = []
        for number in range(self.count if seat.rank == 0 else 0):
            start = time.perf_counter()
            seat.report({"step": number, "loss": 0.1, "lr": 0.1, "samples_per_s": 1e4}, None)
            times.append(1000 * (time.perf_counter() - start))
        return statistics.median(times) if times else 0.0


@dataclass
class FirstStep:
    """Ends with its first step, and says when it began and when that was done."""

    def run(self, seat: Any) -> list[float]:
        began = time.time()
        trainer = Trainer("mlp", 64, seat.wrap)
        trainer.epoch(torch.randn(64, 1, 28, 28), torch.randint(0, 10, (64,)))
        return [began, time.time()]


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    dist.all_reduce(torch.zeros(1))
    if dist.get_rank() == 0:
        (folder / "first").write_text(repr(time.time()))
    turn = 0
    while (asked := wait(folder, turn)) is not None:
        x, y = (one[: asked["rows"]] for one in data())
        rate = Trainer(asked["model"], asked["batch"]).rate(x, y, asked["epochs"])
        if dist.get_rank() == 0:
            (folder / "answer").write_text(json.dumps({"samples_per_s": rate}))
            (folder / "answer").rename(folder / f"done.{turn}")
        turn += 1
    dist.destroy_process_group()


def wait(folder: Path, turn: int) -> Any:
    while not (folder / "stop").exists():
        if (folder / f"go.{turn}").exists():
            return json.loads((folder / f"go.{turn}").read_text())
        time.sleep(0.05)
    return None


def data() -> tuple[Tensor, Tensor]:
    """(5000, 1, 28, 28) images and their digits."""
    if not _data:
        x, y = SETS["mnist5k"]("data")
        _data.append((torch.tensor(x), torch.tensor(y).long()))
    return _data[0]


_data: list[tuple[Tensor, Tensor]] = []

if __name__ == "__main__":
    main()
