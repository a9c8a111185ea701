"""A worker's place in a group of Ray Train: its rank, its device, checkpoints, reports, and the model made parallel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray.train
import torch
import torch.distributed as dist
from torch import nn

from rayopt.onray.post import Order, Post


class RaySeat:
    """See `training.seat.Seat`."""

    def __init__(self, post: Post, order: Order) -> None:
        from ray.train.torch import get_device

        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.world: int = context.get_world_size()
        self.device: torch.device = get_device()
        self._post, self._order = post, order
