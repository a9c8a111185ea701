"""Trainings that a group of processes shares by gloo, without Ray.

`python -m tests.training.group_of_processes RANK WORLD FOLDER` takes part in all of them; rank 0 leaves the weights.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.models.torch_model import build, from_artifact, to_artifact
from rayopt.training.learner import Learner, TaskObjective
from rayopt.training.loop import Work
from rayopt.training.parallel import fully_sharded, replicated
from rayopt.training.seat import OneSeat
from rayopt.training.settings import TrainSettings
from rayopt.training.source import Arrays

ROWS = 45  # batches of 14, the last of 3: ragged for two workers and three, and in micro-batches of 4


class Idle(nn.Module):
    """Has a layer that it never uses."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


class Summed(nn.Module):
    """A loss that is a sum over the rows."""

    reduction = "sum"

    def forward(self, outputs: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="sum")


def work(objective: nn.Module | None = None, factory: str = "rayopt.models.zoo:mlp", **settings: Any) -> Work:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(ROWS, 6)).astype(np.float32)
    args = {"features": 6, "outputs": 3, "hidden": 8} if factory.startswith("rayopt") else {}
    source = ModelSource(ModelSettings(factory=factory, args=args), "")
    given = {"epochs": 2, "batch_size": 14, "precision": "fp32", "layout": "contiguous", "keep": "last", **settings}
    asked = TrainSettings.model_validate(given)
    rows = Arrays(x, (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0))
    return Work(to_artifact(build(source, 0)), source, rows, objective or TaskObjective(), asked, 0)


SMALL_STEPS = {"use": "sgd", "lr": 0.01}  # a sum over rows has large gradients
WORKS: Mapping[str, Work] = {
    "mean": work(micro_batch=4, ema=0.9, clip_norm=1.0),
    "sum": work(Summed(), micro_batch=4, optimizer=SMALL_STEPS),
    "unused": work(factory="tests.training.group_of_processes:Idle", micro_batch=4),
}


@dataclass
class GlooSeat(OneSeat):
    """A place in the group that this process belongs to."""

    sharded: bool = False

    def wrap(self, learner: Learner) -> nn.Module:
        return fully_sharded(learner) if self.sharded else replicated(learner, self.device)


def weights(work: Work, seat: OneSeat) -> dict[str, Tensor]:
    artifact = work.run(seat).artifact
    return dict(from_artifact(artifact, work.source, work.seed).state_dict())


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(str(folder / "store"), world), rank=rank, world_size=world)
    for name, one in WORKS.items():
        for sharded in (False, True) if name == "mean" else (False,):
            told = f"{name}-sharded" if sharded else name
            found = weights(one, GlooSeat(folder / told, rank=rank, world=world, sharded=sharded))
            if rank == 0:
                save_file(found, folder / f"{told}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
