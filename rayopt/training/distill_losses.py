"""Losses of following a teacher, by name; to add one, write its function and enter it in LOSSES.

Each compares the logits of student and teacher, `(rows, classes)`, and gives the mean over the rows. `targets` are
class numbers `(rows,)`, MISSING where a row has no label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rayopt.data.partial import MISSING as MISSING
from rayopt.training.losses import soft_loss

EPSILON = 1e-7

Loss = Callable[..., Tensor]


@dataclass(frozen=True)
class Entry:
    """`function(student, teacher, targets, temperature, **args)`, where it is from, and its arguments' defaults."""

    function: Loss
    source: str
    args: Mapping[str, float]


def soft(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """The divergence of the softened classes, times T² (Hinton, Vinyals and Dean, 2015, section 2)."""
    return soft_loss(student, teacher, temperature)


def textbook(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """The same without T², as textbooks have it: the higher the temperature, the less it weighs."""
    return soft_loss(student, teacher, temperature) / temperature**2


def decoupled(
    student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, target: float = 1.0, others: float = 8.0
) -> Tensor:
    """The divergence in its two parts, each with a weight of its own, times T² (Zhao et al., 2022, equations 7 and 8).

    They are about the target's class against all others, and about the others among themselves. The teacher's own class
    stands in for a label that is missing.
    """
    classes = torch.where(targets == MISSING, teacher.argmax(dim=1), targets)
    log_student, log_teacher = (F.log_softmax(logits / temperature, dim=1) for logits in (student, teacher))
    own, rest = classes[:, None], _other_classes(classes, student.shape[1])
    binary = _divergence(*(_against_others(one, own, rest) for one in (log_student, log_teacher)))
    among = _divergence(*(F.log_softmax(one.gather(1, rest), dim=1) for one in (log_student, log_teacher)))
    return (target * binary + others * among).mean() * temperature**2


def standardized(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Soft loss of logits brought to mean 0 and deviation 1 by row (Sun et al., 2024, section 4).

    The student need not reach the size of the teacher's logits, only their order and proportions.
    """
    return soft_loss(_standardize(student), _standardize(teacher), temperature)


def logits(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """The squared error of the logits themselves (Ba and Caruana, 2014, section 2)."""
    return F.mse_loss(student, teacher)


def hard(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Cross entropy with the class that the teacher says (pseudo-labels: Lee, 2013)."""
    return F.cross_entropy(student, teacher.argmax(dim=1))


def relational(
    student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, distance: float = 25.0, angle: float = 50.0
) -> Tensor:
    """How far the rows of a batch lie apart, and at what angles (Park et al., 2019, sections 3.2 and 3.3).

    Both may have different widths. The angles of n rows take memory of order n³; `angle: 0` leaves them out.
    """
    total = student.sum() * 0
    if len(student) < 2:
        return total
    if distance:
        total = total + distance * F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher))
    if angle:
        total = total + angle * F.smooth_l1_loss(_angles(student), _angles(teacher))
    return total


def _divergence(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    """By row, the divergence from the teacher's classes to the student's; a class that has no share at all counts 0."""
    shares = log_teacher.exp()
    return (shares * (log_teacher - log_student)).where(shares > 0, 0.0).sum(dim=1)


def _other_classes(classes: Tensor, count: int) -> Tensor:
    """`(rows, count - 1)`: for each row the classes besides its own."""
    numbers = torch.arange(count - 1, device=classes.device)
    return numbers + (numbers >= classes[:, None])


def _against_others(log_shares: Tensor, own: Tensor, rest: Tensor) -> Tensor:
    """`(rows, 2)`: the target's class, and all others together."""
    return torch.cat([log_shares.gather(1, own), log_shares.gather(1, rest).logsumexp(dim=1, keepdim=True)], dim=1)


def _standardize(logits: Tensor) -> Tensor:
    centered = logits - logits.mean(dim=1, keepdim=True)
    return centered / (logits.std(dim=1, correction=0, keepdim=True) + EPSILON)  # has a gradient at 0, as sqrt has not


def _relative_distances(rows: Tensor) -> Tensor:
    """`(n, n)`: distances between rows over their mean."""
    squared = rows.square().sum(dim=1)
    distances = (squared[:, None] + squared[None] - 2 * rows @ rows.T).clamp_min(1e-12).sqrt()
    apart = distances * (1 - torch.eye(len(rows), dtype=rows.dtype, device=rows.device))
    return apart / (apart.sum() / (len(rows) * (len(rows) - 1))).clamp_min(1e-12)


def _angles(rows: Tensor) -> Tensor:
    """`(n, n, n)`: the cosine of the angle at row i between rows j and k."""
    directions = F.normalize(rows[None] - rows[:, None], dim=2)
    return torch.bmm(directions, directions.transpose(1, 2))


LOSSES: Mapping[str, Entry] = {
    "soft": Entry(soft, "Hinton, Vinyals and Dean, 2015", {}),
    "textbook": Entry(textbook, "Hinton, Vinyals and Dean, 2015, without T²", {}),
    "decoupled": Entry(decoupled, "Zhao, Cui, Song, Qiu and Liang, 2022", {"target": 1.0, "others": 8.0}),
    "standardized": Entry(standardized, "Sun, Ren, Li, Wang and Cao, 2024", {}),
    "logits": Entry(logits, "Ba and Caruana, 2014", {}),
    "hard": Entry(hard, "Lee, 2013", {}),
    "relational": Entry(relational, "Park, Kim, Lu and Cho, 2019", {"distance": 25.0, "angle": 50.0}),
}
