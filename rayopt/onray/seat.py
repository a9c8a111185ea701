"""A worker's place in a group of Ray Train: its rank, its device, checkpoints, reports, and the model made parallel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import ray.train
import torch
from ray.train.torch import get_device
from torch import nn

from rayopt.onray.group import Reported
from rayopt.onray.post import Order, Post
from rayopt.training.learner import Learner
from rayopt.training.parallel import fully_sharded, replicated


class RaySeat:
    """See `training.seat.Seat`."""

    def __init__(self, post: Post, order: Order) -> None:
        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.world: int = context.get_world_size()
        self.device: torch.device = get_device()
        self.folder: Path = order.folder
        self._post, self._order = post, order

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None) -> bool:
        """Tells the driver, and gives whether it has asked by now to stop: it is not waited for."""
        number = self._order.number
        self._post.tell(number, Reported(dict(metrics), checkpoint.name if checkpoint else ""))
        return bool(self._post.found(f"stop/{number}"))

    def wrap(self, learner: Learner) -> nn.Module:
        if self._order.sharding == "fsdp":
            return fully_sharded(learner)
        return replicated(learner, self.device) if self.world > 1 else learner
