"""Removes whole channels, least important first; follow it with `recover`."""

from __future__ import annotations

from pydantic import Field

from rayopt.errors import StepError
from rayopt.methods import Context
from rayopt.records import Artifact
from rayopt.spec import Settings

accepts = "torch"
gives = "torch"
version = 1


class Params(Settings):
    keep: float = Field(0.5, gt=0, lt=1, description="share of every layer's channels to keep")
    widths: dict[str, int] = Field({}, description="channels to keep by layer name or pattern, instead of `keep`")
    round_to: int = Field(8, ge=1, description="widths become multiples of this")


def apply(model: Artifact, params: Params, context: Context) -> Artifact:
    import torch

    from rayopt.compress.prune import cannot_be_pruned, prune_channels
    from rayopt.models.torch_model import from_artifact, to_artifact

    module = from_artifact(model, context.source, context.seed)
    example = torch.tensor(context.data["train"].x[:2])
    notes = prune_channels(module, example, params.keep, params.widths, params.round_to)
    artifact = to_artifact(module, notes)
    try:
        back = from_artifact(artifact, context.source, context.seed)
        with torch.no_grad():
            if torch.equal(back(example), module(example)):
                return artifact
        raise ValueError("its outputs change when it is saved and read again")
    except Exception as error:
        raise StepError(cannot_be_pruned(module, error)) from error
