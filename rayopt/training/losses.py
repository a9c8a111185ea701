"""Losses of training and distillation; every one takes raw model outputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rayopt.errors import StepError

NO_CLASS = -100  # torch's own number for a place without a class


def task_loss(outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0, gaps: bool = False) -> Tensor:
    """Cross entropy for class numbers, mean squared error for quantities.

    outputs: `(batch, classes, ...)`, or `(batch, 1, ...)` or `(batch,)` for quantities or the logit of the second of
    two classes; targets: `(batch, ...)`, or `(batch, 1, ...)`. Class numbers may be of any whole type; places of
    NO_CLASS do not count. gaps: there may be nothing but such places, which costs nothing then. Raises StepError for
    shapes that do not go together.
    """
    if targets.is_floating_point():
        return F.mse_loss(as_quantities(outputs, targets), targets)
    logits = by_class(outputs)
    classes = as_classes(targets, logits)
    if not gaps:
        return F.cross_entropy(logits, classes, label_smoothing=label_smoothing)
    summed = F.cross_entropy(logits, classes, reduction="sum", label_smoothing=label_smoothing)
    return summed / (classes != NO_CLASS).sum().clamp_min(1)


def as_quantities(outputs: Tensor, targets: Tensor) -> Tensor:
    """Outputs in the shape of their targets, from which they may differ in axes of size 1; raises StepError."""
    if outputs.shape == targets.shape:
        return outputs
    if outputs.shape[:1] != targets.shape[:1] or _without_ones(outputs) != _without_ones(targets):
        raise _unlike(outputs, targets)
    return outputs.reshape(targets.shape)


def as_classes(targets: Tensor, logits: Tensor) -> Tensor:
    """Class numbers as int64 `(batch, ...)` for logits `(batch, classes, ...)`; raises StepError."""
    if targets.ndim == logits.ndim and targets.shape[1] == 1:
        targets = targets.squeeze(1)
    if targets.shape != (*logits.shape[:1], *logits.shape[2:]):
        raise _unlike(logits, targets)
    return targets.long()


def by_class(logits: Tensor) -> Tensor:
    """Logits `(batch, classes, ...)`; a single one z, of two classes, is the same as 0 and z."""
    if logits.ndim > 1 and logits.shape[1] > 1:
        return logits
    single = logits if logits.ndim > 1 else logits[:, None]
    return torch.cat([torch.zeros_like(single), single], dim=1)


def _without_ones(tensor: Tensor) -> list[int]:
    return [size for size in tensor.shape if size != 1]


def _unlike(outputs: Tensor, targets: Tensor) -> StepError:
    kind = "quantities" if targets.is_floating_point() else "class numbers"
    return StepError(
        f"the model gives {tuple(outputs.shape)} for {kind} {tuple(targets.shape)}: targets are quantities of the "
        f"outputs' shape, or class numbers without the outputs' axis of classes"
    )


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """How far the student's softened classes are from the teacher's, times T² (Hinton et al., 2015, section 2).

    T² keeps the gradient's size the same for every temperature. Both are logits `(batch, classes, ...)`; of maps it is
    the mean over their places.
    """
    log_student = F.log_softmax(student / temperature, dim=1)
    log_teacher = F.log_softmax(teacher / temperature, dim=1)
    if student.ndim == 2:  # the same in fewer operations
        return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * temperature**2
    divergence = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=1)
    return divergence.mean() * temperature**2


def recovery_loss(outputs: Tensor, targets: Tensor, teacher: Tensor, alpha: float, temperature: float) -> Tensor:
    """`alpha` of following the teacher and `1 - alpha` of the task's own loss."""
    if not targets.is_floating_point():
        follow = soft_loss(by_class(outputs), by_class(teacher), temperature)
    else:
        follow = F.mse_loss(outputs.reshape(teacher.shape), teacher)
    return alpha * follow + (1 - alpha) * task_loss(outputs, targets)
