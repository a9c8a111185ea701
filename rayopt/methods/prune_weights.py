"""Sets the smallest weights to zero, and keeps them there when training follows; makes no file smaller by itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from rayopt.methods import Context
from rayopt.records import Artifact
from rayopt.spec import Settings

accepts = "torch"
gives = "torch"
version = 1


class Params(Settings):
    share: float = Field(0.5, gt=0, lt=1, description="share of the weights that become zero")
    scope: Literal["global", "layer"] = Field("global", description="the share is of all weights, or of each layer's")
    threshold: float | None = Field(None, gt=0, description="instead of a share: all weights below this magnitude")
    pattern: str | None = Field(
        None, pattern=r"^[1-9]\d?:[1-9]\d?$", description="instead of a share: n:m keeps n of every m inputs, as 2:4"
    )

    @field_validator("pattern")
    @classmethod
    def _possible(cls, pattern: str | None, info: ValidationInfo) -> str | None:
        if pattern is None:
            return None
        n, m = map(int, pattern.split(":"))
        if n >= m:
            raise ValueError("n:m keeps fewer than all, so n is below m")
        if info.data.get("threshold") is not None:
            raise ValueError("goes without a threshold")
        return pattern


def apply(model: Artifact, params: Params, context: Context) -> Artifact:
    from rayopt.compress.sparsify import Rule, prune_weights
    from rayopt.models.torch_model import from_artifact, to_artifact

    module = from_artifact(model, context.source, context.seed)
    notes = prune_weights(module, Rule(params.share, params.scope, params.threshold, params.pattern))
    return to_artifact(module, notes)
