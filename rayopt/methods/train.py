"""Trains the model on the job's training rows."""

from __future__ import annotations

from rayopt.errors import StepError
from rayopt.methods import Context
from rayopt.records import Artifact
from rayopt.training.settings import FitSettings

accepts = "torch"
gives = "torch"
version = 2


class Params(FitSettings):
    pass


def apply(model: Artifact, params: Params, context: Context) -> Artifact:
    import torch

    from rayopt.models.torch_model import from_artifact, to_artifact
    from rayopt.training.fit import fit
    from rayopt.training.losses import task_loss

    module = from_artifact(model, context.source, context.seed)
    rows = context.data["train"]
    if rows.y is None:
        raise StepError("there are no labels to train on")
    x, y = torch.tensor(rows.x), torch.tensor(rows.y)
    losses = fit(module, x, y, lambda outputs, targets, _: task_loss(outputs, targets), params, context.seed)
    return to_artifact(module, losses)
