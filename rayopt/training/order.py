"""The order of the data: a pure function of the seed, the epoch and the row, whoever computes how much of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Micro:
    """Rows that are taken at once, and the share of the step's loss that their mean loss makes up."""

    rows: Tensor
    share: float


def batches(count: int, size: int, seed: int, epoch: int) -> list[Tensor]:
    """The row numbers of an epoch by step.

    A last batch of one row is joined to the one before: batch normalisation cannot train on a single row. Where all
    batches are asked to be of one row, they are.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    parts = list(torch.split(torch.randperm(count, generator=generator), size))
    if _joins(count, size):
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def steps_in(count: int, size: int) -> int:
    """How many batches an epoch has."""
    return -(-count // size) - _joins(count, size)


def most_rows(count: int, size: int) -> int:
    """The rows of an epoch's largest batch."""
    return min(count, size + _joins(count, size))


def _joins(count: int, size: int) -> bool:
    """Whether the last batch would be of a single row, and there is one before it to join."""
    return 1 < size < count and count % size == 1


def micros(batch: Tensor, rank: int, world: int, size: int | None) -> Sequence[Micro]:
    """What worker `rank` of `world` takes of a batch, at most `size` rows at once.

    Gradients are averaged over workers: the shares are such that the average is the gradient of the batch's mean loss,
    however unequal the parts. All workers take as many micro-batches, since those that share a model wait for one
    another in each: one that has no rows left takes one whose share is nothing.
    """
    largest = -(-len(batch) // world)
    count = 1 if size is None else -(-largest // size)
    mine = torch.tensor_split(batch, world)[rank] if world > 1 else batch
    parts = torch.tensor_split(mine, count) if count > 1 else (mine,)
    return [Micro(one, world * len(one) / len(batch)) if len(one) else Micro(batch[:1], 0.0) for one in parts]
