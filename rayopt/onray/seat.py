"""A worker's place in a group of Ray Train: its rank, its device, checkpoints, reports, and the model made parallel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import ray.train
import torch
import torch.distributed as dist
from ray.train.torch import get_device
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parallel import DistributedDataParallel

from rayopt.onray.group import Reported
from rayopt.onray.post import Order, Post
from rayopt.training.learner import Learner


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
        return fully_sharded(learner) if self._order.sharding == "fsdp" else replicated(learner, self.device)


def replicated(learner: nn.Module, device: torch.device) -> nn.Module:
    """The model in each worker, with gradients averaged among them.

    Buffers are sent around before each step only where a forward may read them: batch statistics are not read in
    training. With more than two workers the order in which gradients are added up depends on their place in DDP's
    buckets, which it makes anew after the first step, unless it is to look for unused parameters: without that a
    training that was taken up again would differ in the last bits.
    """
    return DistributedDataParallel(
        learner,
        device_ids=[device] if device.type == "cuda" else None,
        broadcast_buffers=_has_other_buffers(learner),
        gradient_as_bucket_view=True,
        find_unused_parameters=dist.get_world_size() > 2,
    )


def fully_sharded(learner: nn.Module) -> nn.Module:
    """The model split among the workers (FSDP2), each child that has parameters of its own as one unit."""
    from torch.distributed.fsdp import fully_shard

    for child in learner.children():
        if any(True for _ in child.parameters()):
            fully_shard(child)
    fully_shard(learner)
    return learner


def _has_other_buffers(module: nn.Module) -> bool:
    return any(True for one in module.modules() if not isinstance(one, _NormBase) for _ in one.buffers(recurse=False))
