"""Steps of an ordinary training for the tracer, the allocator and the clock: forward, loss, backward, update."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rayopt.memory.recompute import recompute
from rayopt.memory.rehearsal import Step, Variant, Watch
from rayopt.memory.settings import OptimizerSettings
from rayopt.plugins import locate

Loss = Callable[[Any, Tensor], Tensor]
MakeOptimizer = Callable[[nn.Module, bool], torch.optim.Optimizer]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TrainingSteps:
    """A module, a loss, an optimizer and some example rows `(rows, ...)`, repeated for as many as are asked for."""

    module: nn.Module
    x: Tensor
    y: Tensor
    loss: Loss
    make_optimizer: MakeOptimizer
    device: torch.device = torch.device("cpu")

    def open(self, module: nn.Module, rows: int, variant: Variant, watch: Watch) -> Step:
        """As `Rehearsal.open`. Each micro-batch's loss is divided by how many there are."""
        module.train()
        if variant.checkpointing:
            recompute(module)
        optimizer = self.make_optimizer(module, variant.foreach)
        watch(module, optimizer)
        dtype = DTYPES.get(variant.precision)
        scaler = torch.amp.GradScaler(self.device.type, enabled=variant.precision == "fp16")

        def micro_batch() -> None:
            at = torch.arange(rows, device=self.device) % len(self.x)
            x, y = self.x[at], self.y[at]
            with torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
                value = self.loss(module(x), y)
            scaler.scale(value / variant.accumulation).backward()

        def step() -> None:
            optimizer.zero_grad()
            for _ in range(variant.accumulation):
                micro_batch()
            scaler.step(optimizer)
            scaler.update()

        return step


def optimizer_of(settings: OptimizerSettings, place: str) -> MakeOptimizer:
    """What makes the optimizer that a job names, over lists of parameters or one by one; raises InputError."""
    factory = None if settings.use in ("sgd", "adamw") else locate(settings.use, place)

    def make(module: nn.Module, foreach: bool) -> torch.optim.Optimizer:
        parameters: Iterable[nn.Parameter] = [one for one in module.parameters() if one.requires_grad]
        if factory is not None:
            optimizer: torch.optim.Optimizer = factory(parameters, **settings.args)
            return optimizer
        if settings.use == "adamw":
            return torch.optim.AdamW(parameters, settings.lr, weight_decay=settings.weight_decay, foreach=foreach)
        return torch.optim.SGD(
            parameters, settings.lr, settings.momentum, weight_decay=settings.weight_decay,
            nesterov=settings.momentum > 0, foreach=foreach,
        )  # fmt: skip

    return make
