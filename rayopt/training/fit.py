"""The training loop: SGD with momentum under a one-cycle schedule, in an order of data fixed by the seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from rayopt.errors import StepError
from rayopt.models.masks import Zeros
from rayopt.training.settings import FitSettings

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def fit(module: nn.Module, x: Tensor, y: Tensor, loss: Loss, settings: FitSettings, seed: int) -> dict[str, float]:
    """Trains `module` in place on rows x, y; gives the mean loss of the first and the last epoch.

    Pruned weights stay zero.
    `loss(outputs, targets, rows)` gets the numbers of the batch's rows as well. Raises StepError when it is not finite.
    """
    batch = min(settings.batch_size, len(x))
    steps = settings.epochs * math.ceil(len(x) / batch)
    optimizer = torch.optim.SGD(
        module.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay,
        nesterov=settings.momentum > 0,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.lr, total_steps=steps, cycle_momentum=False)
    zeros = Zeros(module)
    torch.manual_seed(seed)
    module.train()
    means: list[float] = []
    for epoch in range(settings.epochs):
        total = 0.0
        for rows in _batches(len(x), batch, seed, epoch):
            value = loss(module(x[rows]), y[rows], rows)
            if not torch.isfinite(value):
                raise StepError(
                    f"the loss became {value.item()} in epoch {epoch + 1}; a lower lr than {settings.lr} may help"
                )
            optimizer.zero_grad()
            torch.autograd.backward(value)
            optimizer.step()
            zeros.restore()
            schedule.step()
            total += value.item() * len(rows)
        means.append(total / len(x))
    module.eval()
    return {"loss_first": means[0], "loss_last": means[-1]}


def _batches(rows: int, size: int, seed: int, epoch: int) -> Iterator[Tensor]:
    """Row numbers by batch; the order is a function of seed and epoch alone.

    A last batch of one row is joined to the one before: batch normalisation cannot train on a single row.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    parts = list(torch.split(torch.randperm(rows, generator=generator), size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    yield from parts
