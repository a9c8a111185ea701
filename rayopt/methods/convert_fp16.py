"""Stores weights in float16 and computes in it where the range allows; inputs and outputs stay float32."""

from __future__ import annotations

from rayopt.compress.settings import HalfSettings
from rayopt.methods import Context
from rayopt.records import Artifact

accepts = "onnx"
gives = "onnx"
version = 1


class Params(HalfSettings):
    pass


def apply(model: Artifact, params: Params, context: Context) -> Artifact:
    from rayopt.compress.convert_fp16 import convert_fp16

    return convert_fp16(model, context.data["calibration"].x, params)
