"""Quantises weights to 8 bits (S8) and activations to 8 bits (U8) with ranges from the calibration rows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rayopt.methods import Context
from rayopt.records import Artifact
from rayopt.spec import Settings

accepts = "onnx"
gives = "onnx"
version = 1


class Params(Settings):
    per_channel: bool = Field(True, description="a scale for each output channel instead of one for the tensor")
    calibration: Literal["minmax", "entropy", "percentile"] = Field("minmax", description="how ranges are found")


def apply(model: Artifact, params: Params, context: Context) -> Artifact:
    from rayopt.compress.quantize import quantize_static

    return quantize_static(model, context.data["calibration"].x, params.per_channel, params.calibration)
