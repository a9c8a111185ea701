"""Trains a changed model to follow the original again (knowledge distillation), and the labels."""

from __future__ import annotations

from pydantic import Field

from rayopt.errors import StepError
from rayopt.methods import Context
from rayopt.records import Artifact
from rayopt.training.settings import FitSettings

accepts = "torch"
gives = "torch"
version = 1


class Params(FitSettings):
    epochs: int = Field(12, ge=1, le=100_000)
    alpha: float = Field(
        0.5, ge=0, le=1, description="weight of following the original; the rest is the task's own loss"
    )
    temperature: float = Field(4.0, gt=0, description="softens both models' classes before they are compared")


def apply(model: Artifact, params: Params, context: Context) -> Artifact:
    import torch

    from rayopt.models.torch_model import from_artifact, to_artifact
    from rayopt.training.fit import fit
    from rayopt.training.losses import recovery_loss

    if context.original is None:
        raise StepError("there is no original to follow: `recover` stands before any model was trained")
    rows = context.data["train"]
    x, y = torch.tensor(rows.x), torch.tensor(rows.y)
    teacher = from_artifact(context.original, context.source, context.seed)
    with torch.no_grad():  # the teacher is asked once: the rows do not change from epoch to epoch
        answers = torch.cat([teacher(part) for part in torch.split(x, 256)])
    student = from_artifact(model, context.source, context.seed)

    def loss(outputs: torch.Tensor, targets: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        return recovery_loss(outputs, targets, answers[at], params.alpha, params.temperature)

    return to_artifact(student, fit(student, x, y, loss, params, context.seed))
