"""Losses of training and distillation; every one takes raw model outputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def task_loss(outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy for class numbers, mean squared error for quantities.

    outputs: `(batch, classes, ...)`, or `(batch, 1)` or `(batch,)` for quantities or the logit of the second of two
    classes; targets: `(batch, ...)`.
    """
    if targets.dtype == torch.int64:
        return F.cross_entropy(by_class(outputs), targets, label_smoothing=label_smoothing)
    return F.mse_loss(outputs.reshape(targets.shape), targets)


def by_class(logits: Tensor) -> Tensor:
    """Logits `(batch, classes, ...)`; a single one z, of two classes, is the same as 0 and z."""
    if logits.ndim > 1 and logits.shape[1] > 1:
        return logits
    single = logits.reshape(-1)
    return torch.stack([torch.zeros_like(single), single], dim=1)


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
    if targets.dtype == torch.int64:
        follow = soft_loss(by_class(outputs), by_class(teacher), temperature)
    else:
        follow = F.mse_loss(outputs.reshape(teacher.shape), teacher)
    return alpha * follow + (1 - alpha) * task_loss(outputs, targets)
