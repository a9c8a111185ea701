"""Optimizers by name, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from rayopt.errors import StepError
from rayopt.plugins import locate
from rayopt.training.settings import OptimizerSettings, ScheduleSettings

START, END = 1 / 25, 1 / 25 / 1e4  # of one-cycle's peak, as torch has them


def optimizer_of(parameters: Iterable[nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Raises InputError for a factory that is not there, StepError for one that gives no optimizer."""
    wanted = [one for one in parameters if one.requires_grad]
    if not wanted:
        raise StepError("the model has no parameters to train")
    if settings.use == "sgd":
        return torch.optim.SGD(
            wanted, settings.peak_lr, settings.momentum, weight_decay=settings.weight_decay,
            nesterov=settings.momentum > 0, foreach=settings.foreach,
        )  # fmt: skip
    if settings.use == "adamw":
        return torch.optim.AdamW(
            wanted, settings.peak_lr, settings.betas, weight_decay=settings.weight_decay, foreach=settings.foreach
        )
    factory = locate(settings.use, "optimizer.use")
    made = factory(wanted, lr=settings.peak_lr, **settings.args)
    if not isinstance(made, torch.optim.Optimizer):
        raise StepError(f"{settings.use} gave {type(made).__name__} instead of a torch.optim.Optimizer")
    return made


def lr_factor(settings: ScheduleSettings, step: int, steps: int) -> float:
    """The learning rate of a step (from 0) of `steps`, as a share of its peak."""
    warmup = settings.warmup * steps
    if settings.use == "one_cycle":
        peak = max(warmup - 1, 0.0)
        if step <= peak:
            return _between(START, 1.0, step / peak if peak else 1.0)
        return _between(1.0, END, (step - peak) / max(1e-9, steps - 1 - peak))
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if settings.use == "constant":
        return 1.0
    done = (step - warmup) / max(1.0, steps - warmup)
    return 1 - done if settings.use == "linear" else _between(1.0, 0.0, done)


def _between(start: float, end: float, share: float) -> float:
    """Half a cosine from one to the other."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * min(1.0, share)))
