"""Distillation: the textbook's loss and trainer, and the objective that jobs train by, with cached teachers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayopt.errors import StepError, input_error
from rayopt.training.distill_losses import LOSSES, MISSING
from rayopt.training.distill_settings import FeatureSettings, LossSettings
from rayopt.training.feature_losses import FEATURE_LOSSES, Shape
from rayopt.training.layers import Heard, layer_of
from rayopt.training.learner import statistics_kept
from rayopt.training.losses import as_classes, as_quantities, by_class, task_loss
from rayopt.training.softened import Softened
from rayopt.training.teacher import Answers


class DistillationLoss(nn.Module):
    """`alpha * CE(student, labels) + (1 - alpha) * KL(student, teacher)` of classes softened by the temperature.

    The divergence is the mean over the rows (`batchmean`), without T²: as textbooks have it (Hinton, Vinyals and Dean,
    2015, advise T²: `loss: {use: soft}` of a job).
    """

    def __init__(self, temperature: float = 3.0, alpha: float = 0.5) -> None:
        super().__init__()
        if not temperature > 0:
            raise input_error("temperature", f"{temperature} is no temperature", "give more than 0")
        if not 0 <= alpha <= 1:
            raise input_error("alpha", f"{alpha} is no share", "give 0 to 1")
        self.temperature, self.alpha = temperature, alpha

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> Tensor:
        """Logits `(rows, classes)`, class numbers `(rows,)`; raises InputError where they do not go together."""
        _check_classes(student_logits, teacher_logits)
        if targets.shape != student_logits.shape[:1]:
            problem = f"has shape {tuple(targets.shape)} for {len(student_logits)} rows"
            raise input_error("targets", problem, "give one class number for each row")
        try:
            own = F.cross_entropy(student_logits, targets.long())
        except IndexError as error:  # on a GPU torch itself ends the process
            raise input_error("targets", str(error), f"give 0 to {student_logits.shape[1] - 1}") from error
        softened = F.log_softmax(student_logits / self.temperature, dim=1)
        wanted = F.softmax(teacher_logits / self.temperature, dim=1)
        return self.alpha * own + (1 - self.alpha) * F.kl_div(softened, wanted, reduction="batchmean")


class DistillationTrainer:
    """Trains a student step by step to follow a teacher that it asks for every batch.

    distillation_loss: called `(student_logits, teacher_logits, targets)`. Jobs ask the teacher once for all rows.
    """

    def __init__(
        self,
        teacher_model: nn.Module,
        student_model: nn.Module,
        optimizer: torch.optim.Optimizer,
        distillation_loss: nn.Module | None = None,
    ) -> None:
        self.teacher_model, self.student_model = teacher_model, student_model
        self.optimizer = optimizer
        self.distillation_loss = DistillationLoss() if distillation_loss is None else distillation_loss

    def train_step(self, inputs: Tensor, targets: Tensor) -> float:
        """One step of the optimizer; gives the loss. The teacher stays as it is.

        Raises StepError when the loss is not finite, InputError for targets that are no classes of the models; the
        student is then as before.
        """
        self.teacher_model.eval()
        with torch.no_grad():  # what is made under inference_mode cannot be used for gradients
            teacher_logits = self.teacher_model(inputs)
        self.student_model.train()  # only now: it may share layers with the teacher
        with statistics_kept(self.student_model):
            loss: Tensor = self.distillation_loss(self.student_model(inputs), teacher_logits, targets)
            if not torch.isfinite(loss):
                raise StepError(f"the loss became {loss.item()}; a lower learning rate may help")
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        return loss.item()


@dataclass(frozen=True)
class Pair:
    """A layer of the student beside one of a teacher, with the shapes of their outputs for one row."""

    settings: FeatureSettings
    student: Shape
    teacher: Shape


class DistillationObjective(nn.Module):
    """The mean over rows of `alpha` of the labels' loss and `1 - alpha` of following the teachers' answers, as weighed.

    The gradient of the soft loss to several teachers is that to the weighted mean of their softened classes (You et
    al., 2017). Rows without a label (MISSING, or NaN for quantities) only follow; the labels' loss is divided by
    `labeled_share`, so that the sum over any batches is that of the whole. Layers that are compared belong to the
    first teacher.
    """

    def __init__(
        self,
        answers: Sequence[Answers],
        settings: LossSettings,
        alpha: float,
        labeled_share: float = 1.0,
        pairs: Sequence[Pair] = (),
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self._smoothing = label_smoothing
        self._answers, self._settings, self._alpha = tuple(answers), settings, alpha
        self._share = labeled_share
        total = sum(one.weight for one in answers)
        self._weights = tuple(one.weight / total for one in answers)
        self._pairs = tuple(pairs)
        made = [FEATURE_LOSSES[one.settings.use](one.student, one.teacher) for one in self._pairs]
        self.features = nn.ModuleList(made)
        self._seen: dict[str, Tensor] = {}
        self._softened: Softened | None = None

    def attach(self, module: nn.Module) -> None:
        """Listens to the student's layers that are compared, and softens the answers once.

        Raises StepError for a layer that there is not.
        """
        if self._alpha < 1 and self._settings.use in ("soft", "textbook"):
            self._softened = Softened.of(self._answers, self._weights, self._settings.temperature)
        for name in {one.settings.student for one in self._pairs}:
            layer_of(module, name).register_forward_hook(Heard(self._seen, name))

    def forward(self, outputs: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        parts = []
        if self._alpha > 0:
            parts.append(_times(self._alpha / self._share, labels_loss(outputs, targets, self._smoothing)))
        if self._alpha < 1:
            parts.append(_times(1 - self._alpha, self._followed(outputs, targets, rows)))
        for pair, feature in zip(self._pairs, self.features, strict=True):
            wanted = self._answers[0].at(rows, pair.settings.teacher)
            parts.append(pair.settings.weight * feature(self._seen[pair.settings.student].float(), wanted))
        return functools.reduce(torch.add, parts)

    def _followed(self, outputs: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """The weighted mean of following each teacher."""
        if self._softened is not None and outputs.ndim == 2 and not targets.is_floating_point():
            loss = self._softened.loss(outputs, rows)
            return loss if self._settings.use == "soft" else loss / self._settings.temperature**2
        each = zip(self._weights, self._answers, strict=True)
        return functools.reduce(
            torch.add, [_times(weight, self._follow(outputs, one.at(rows), targets)) for weight, one in each]
        )

    def _follow(self, outputs: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
        if targets.is_floating_point():  # quantities have no classes: the squared error is all there is
            return F.mse_loss(outputs, teacher.reshape(outputs.shape))
        entry = LOSSES[self._settings.use]
        args = {**entry.args, **self._settings.args}
        classes = (_as_rows(by_class(outputs)), _as_rows(by_class(teacher)), targets.reshape(-1))
        return entry.function(*classes, self._settings.temperature, **args)


def labels_loss(outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The task's own loss summed over the rows that have a label, divided by all rows."""
    if targets.is_floating_point():
        known = torch.isfinite(targets)
        errors = as_quantities(outputs, targets) - torch.where(known, targets, 0.0)
        return torch.where(known, errors, 0.0).square().mean()
    if not (targets == MISSING).any():
        return task_loss(outputs, targets, label_smoothing)
    logits = by_class(outputs)
    classes = as_classes(targets, logits)
    summed = F.cross_entropy(logits, classes, ignore_index=MISSING, reduction="sum", label_smoothing=label_smoothing)
    return summed / targets.numel()


def _times(factor: float, loss: Tensor) -> Tensor:
    """The product; each operation is felt in the steps of a small student."""
    return loss if factor == 1 else factor * loss


def _as_rows(logits: Tensor) -> Tensor:
    """Maps of classes `(rows, classes, ...)` as one row for each place."""
    return logits if logits.ndim == 2 else logits.movedim(1, -1).reshape(-1, logits.shape[1])


def _check_classes(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        problem = f"gives {tuple(teacher.shape)} where the student gives {tuple(student.shape)}"
        raise input_error("teacher_model", problem, "teacher and student need the same classes")
