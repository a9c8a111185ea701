"""Quantises weights and activations to 8 bits with ranges from the calibration rows: for convolutions."""

from __future__ import annotations

from rayopt.compress.settings import StaticSettings
from rayopt.methods import Context
from rayopt.records import Artifact

accepts = "onnx"
gives = "onnx"
version = 2


class Params(StaticSettings):
    pass


def apply(model: Artifact, params: Params, context: Context) -> Artifact:
    from rayopt.compress.quantize_static import quantize_static

    return quantize_static(model, context.data["calibration"].x, params)
