"""Losses between a layer of the student and one of the teacher: modules called `(student, teacher)` for the mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from rayopt.errors import StepError
from rayopt.training.distill_losses import relational

Shape = Sequence[int]  # of a layer's output for one row


class Hints(nn.Module):
    """The squared error after a regressor from the student's width to the teacher's (Romero et al., 2015, section 2.2).

    The regressor is trained along. Maps `(rows, channels, height, width)` get a 1 x 1 convolution and are brought to
    the teacher's size; all else is taken as vectors.
    """

    def __init__(self, student: Shape, teacher: Shape) -> None:
        super().__init__()
        self.size = (teacher[1], teacher[2]) if len(student) == len(teacher) == 3 else None
        self.regressor: nn.Module
        if self.size:
            self.regressor = nn.Conv2d(student[0], teacher[0], 1)
        else:
            self.regressor = nn.Linear(_count(student), _count(teacher))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.size:
            return F.mse_loss(F.adaptive_avg_pool2d(self.regressor(student), self.size), teacher)
        return F.mse_loss(self.regressor(student.flatten(1)), teacher.flatten(1))


class Attention(nn.Module):
    """Where both look: the mean square over channels, of length 1 (Zagoruyko and Komodakis, 2017, section 3.1).

    The larger map is brought to the smaller one's size. Raises StepError for what are no maps.
    """

    def __init__(self, student: Shape, teacher: Shape) -> None:
        super().__init__()
        if len(student) != 3 or len(teacher) != 3:
            raise StepError(f"attention compares maps (channels, height, width), not {student} and {teacher}")
        self.size = (min(student[1], teacher[1]), min(student[2], teacher[2]))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return (self._map(student) - self._map(teacher)).square().mean()

    def _map(self, features: Tensor) -> Tensor:
        squares = F.adaptive_avg_pool2d(features.square().mean(dim=1), self.size)
        return F.normalize(squares.flatten(1), dim=1)


class Relations(nn.Module):
    """How rows lie to each other in both layers (Park et al., 2019)."""

    def __init__(self, student: Shape, teacher: Shape) -> None:
        super().__init__()

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        rows = student.flatten(1)
        return relational(rows, teacher.flatten(1), rows, 1.0, distance=1.0, angle=2.0)


def _count(shape: Shape) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


FEATURE_LOSSES: Mapping[str, Callable[[Shape, Shape], nn.Module]] = {
    "hints": Hints,
    "attention": Attention,
    "relational": Relations,
}
