"""A learner made parallel: copied to each worker (DDP), or split among them (FSDP2). A process group must be there."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parallel import DistributedDataParallel

from rayopt.training.learner import Learner


def replicated(learner: nn.Module, device: torch.device) -> nn.Module:
    """The model in each worker, with gradients averaged among them.

    Buffers are sent around before each step only where a forward may read them: batch statistics are not read in
    training. With more than two workers the order in which gradients are added up depends on their place in DDP's
    buckets, which it makes anew after the first step, unless it is to look for unused parameters: without that a
    training that was taken up again would differ in the last bits. Two workers look for them where there are any.
    """
    return DistributedDataParallel(
        learner,
        device_ids=[device] if device.type == "cuda" else None,
        forward_sync_buffers=_has_other_buffers(learner),
        gradient_as_bucket_view=True,
        find_unused_parameters=dist.get_world_size() > 2 or getattr(learner, "has_unused", False),
    )


def fully_sharded(learner: Learner) -> nn.Module:
    """The model split among the workers: a unit for each child with parameters, one for the model's own parameters,
    which is called alone to evaluate, and one for those of the objective."""
    from torch.distributed.fsdp import fully_shard

    for child in _called(learner.module):
        if any(True for _ in child.parameters()):
            fully_shard(child)
    fully_shard(learner.module)
    fully_shard(learner)
    return learner


def has_unused(learner: Learner, x: Tensor, y: Tensor, rows: Tensor) -> bool:
    """Whether the loss of these rows leaves parameters without a gradient; nothing of the learner is changed."""
    tried = copy.deepcopy(learner)
    torch.autograd.backward(tried(x, y, rows))
    return any(one.requires_grad and one.grad is None for one in tried.parameters())


def _called(module: nn.Module) -> Iterator[nn.Module]:
    """The children, and those of lists and dicts, which are never called themselves."""
    for child in module.children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from _called(child)
        else:
            yield child


def _has_other_buffers(module: nn.Module) -> bool:
    return any(True for one in module.modules() if not isinstance(one, _NormBase) for _ in one.buffers(recurse=False))
