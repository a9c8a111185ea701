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
from rayopt.training.seat import best_device


class PostSeat:
    """The only worker's; see `training.seat.Seat`. What it reports goes by the post."""

    rank, world = 0, 1

    def __init__(self, post: Post, order: Order, device: torch.device | None = None) -> None:
        self.device = device or best_device()
        self.folder: Path = order.folder
        self._post, self._order = post, order

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None) -> bool:
        """Tells the driver, and gives whether it has asked by now to stop: it is not waited for."""
        number = self._order.number
        self._post.tell(number, Reported(dict(metrics), checkpoint.name if checkpoint else ""))
        return bool(self._post.found(f"stop/{number}"))

    def wrap(self, learner: Learner) -> nn.Module:
        return learner


class RaySeat(PostSeat):
    """That of a worker in a group."""

    def __init__(self, post: Post, order: Order) -> None:
        super().__init__(post, order, get_device())
        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.world: int = context.get_world_size()

    def wrap(self, learner: Learner) -> nn.Module:
        if self._order.sharding == "fsdp":
            return fully_sharded(learner)
        return replicated(learner, self.device) if self.world > 1 else learner
