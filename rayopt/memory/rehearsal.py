"""A step of a training as the tracer, the allocator and the clock see it: set up for so many rows, then taken."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import nn

from rayopt.memory.allocator import peak_bytes
from rayopt.training.settings import Layout, Precision

Step = Callable[[], object]
Foreach = bool | None
Watch = Callable[[nn.Module, torch.optim.Optimizer], None]
STEPS = 2  # the optimizer's state is there from the second on


@dataclass(frozen=True)
class Variant:
    """How a step is taken: micro-batches whose gradients are summed, activations computed again in the backward pass,
    precision and layout, and whether the optimizer goes over lists of parameters (larger) or one by one. None leaves
    that to the step engine: on a CPU one kernel for all, faster than either and no larger, where there is one."""

    accumulation: int = 1
    checkpointing: bool = False
    precision: Precision = "fp32"
    foreach: Foreach = None
    layout: Layout = "contiguous"

    @property
    def shape(self) -> Variant:
        """The variant with the same peak: from the second micro-batch on, nothing new is kept."""
        return replace(self, accumulation=min(self.accumulation, 2))


class Rehearsal(Protocol):
    """Somebody's training. `open` sets a step for micro-batches of `rows` rows up on a copy of `module`, without
    touching what it was given otherwise, and tells `watch` which module and optimizer it is of."""

    @property
    def module(self) -> nn.Module: ...

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of data: all micro-batches of a step are there from its beginning."""
        ...

    def open(self, module: nn.Module, rows: int, variant: Variant, watch: Watch) -> Step: ...


def take(rehearsal: Rehearsal, rows: int, variant: Variant) -> None:
    """Sets up and takes two steps on a copy of the model."""
    step = rehearsal.open(copy.deepcopy(rehearsal.module), rows, variant, unwatched)
    for _ in range(STEPS):
        step()


def measured_bytes(rehearsal: Rehearsal, rows: int, variant: Variant, device: torch.device) -> int:
    """The allocator's truth: the most bytes at once of two real steps, weights and all."""
    return peak_bytes(lambda: take(rehearsal, rows, variant), device)


def unwatched(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """For steps that nobody looks into."""
