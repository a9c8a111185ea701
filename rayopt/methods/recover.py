"""Trains a changed model to follow the original again (knowledge distillation), and the labels."""

from __future__ import annotations

from rayopt.errors import StepError
from rayopt.methods import Context
from rayopt.records import Artifact
from rayopt.training.settings import RecoverySettings

accepts = "torch"
gives = "torch"
version = 2


class Params(RecoverySettings):
    pass


def apply(model: Artifact, params: Params, context: Context) -> Artifact:
    import torch

    from rayopt.models.torch_model import from_artifact, to_artifact
    from rayopt.training.recovery import follow

    if context.original is None:
        raise StepError("there is no original to follow: `recover` stands before any model was trained")
    rows = context.data["train"]
    x, y = torch.tensor(rows.x), None if rows.y is None else torch.tensor(rows.y)
    teacher = from_artifact(context.original, context.source, context.seed)
    student = from_artifact(model, context.source, context.seed)
    return to_artifact(student, follow(student, teacher, x, y, params, context.seed))
