"""Following teachers' softened answers in few operations: of them, not of arithmetic, is the step of a small student.

The answers are softened once, for all rows; loss and gradient are written out instead of left to automatic
differentiation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rayopt.training.teacher import OUTPUTS, Answers

MOST_BYTES = 256 << 20  # of the softened answers, which each process holds


@dataclass(eq=False)
class Softened:
    """shares `(rows, classes)`: the weighted mean of the teachers' softened classes; entropies `(rows,)`: that of their
    negative entropies. After `period` rows they begin again."""

    shares: Tensor
    entropies: Tensor
    temperature: float
    period: int | None

    @classmethod
    def of(cls, answers: Sequence[Answers], weights: Sequence[float], temperature: float) -> Softened | None:
        """None where the answers are no classes of rows, not of the same rows, or too many to be held."""
        arrays = [one.stored[OUTPUTS].array for one in answers if OUTPUTS in one.stored]
        first = arrays[0] if arrays else None
        if first is None or first.ndim != 2 or first.shape[1] < 2 or first.size * 4 > MOST_BYTES:
            return None
        if any(one.shape != first.shape for one in arrays) or len({one.period for one in answers}) > 1:
            return None
        shares, entropies = torch.zeros(first.shape), torch.zeros(len(first))
        for weight, array in zip(weights, arrays, strict=True):
            softened = torch.softmax(torch.tensor(array, dtype=torch.float32) / temperature, dim=1)
            shares += weight * softened
            entropies += weight * torch.xlogy(softened, softened).sum(dim=1)
        return cls(shares, entropies, temperature, answers[0].period)

    def loss(self, logits: Tensor, rows: Tensor) -> Tensor:
        """The mean over the rows of the weighted divergences from the teachers to `logits` `(rows, classes)`, times T².

        The gradient of several teachers is that of their mean (You et al., 2017).
        """
        if self.period is not None:
            rows = rows % self.period
        shares, entropies = (one.index_select(0, rows) for one in self._there(rows.device))
        loss: Tensor = _Follow.apply(logits.float(), shares, entropies, self.temperature)  # type: ignore[no-untyped-call]
        return loss

    def _there(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """All of it where the numbers of the rows are."""
        if self.shares.device != device:
            self.shares, self.entropies = self.shares.to(device), self.entropies.to(device)
        return self.shares, self.entropies

    def __deepcopy__(self, memo: Any) -> Softened:
        return self  # nothing changes it


class _Follow(torch.autograd.Function):
    """`T² * mean(entropies - sum(shares * log_softmax(logits / T)))`; its gradient is `T (softmax - shares) / rows`."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, shares: Tensor, entropies: Tensor, temperature: float) -> Tensor:
        factor = temperature / len(logits)
        log_shares = torch.log_softmax(logits * (1 / temperature), dim=1)
        crossed = torch.dot(log_shares.view(-1), shares.view(-1))
        loss: Tensor = (entropies.sum() - crossed).mul_(temperature * factor)
        ctx.gradient = log_shares.exp_().sub_(shares).mul_(factor)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.gradient * gradient, None, None, None
