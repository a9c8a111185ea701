"""Quantises weights to 8 bits and activations as they come: for transformers, perceptrons and LSTMs."""

from __future__ import annotations

from rayopt.compress.settings import DynamicSettings
from rayopt.methods import Context
from rayopt.records import Artifact

accepts = "onnx"
gives = "onnx"
version = 2


class Params(DynamicSettings):
    pass


def apply(model: Artifact, params: Params, context: Context) -> Artifact:
    from rayopt.compress.quantize_dynamic import quantize_dynamic

    return quantize_dynamic(model, params)
