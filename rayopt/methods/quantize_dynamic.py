"""Quantises weights to 8 bits and activations as they come: for transformers; slow for convolutions."""

from __future__ import annotations

from pydantic import Field

from rayopt.methods import Context
from rayopt.records import Artifact
from rayopt.spec import Settings

accepts = "onnx"
gives = "onnx"
version = 1


class Params(Settings):
    per_channel: bool = Field(True, description="a scale for each output channel instead of one for the tensor")


def apply(model: Artifact, params: Params, context: Context) -> Artifact:
    from rayopt.compress.quantize import quantize_dynamic

    return quantize_dynamic(model, params.per_channel)
