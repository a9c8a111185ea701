"""Quantises the weights of matrix products to 4 or 8 bits in blocks: for size, seldom for speed."""

from __future__ import annotations

from rayopt.compress.settings import BlockSettings
from rayopt.methods import Context
from rayopt.records import Artifact

accepts = "onnx"
gives = "onnx"
version = 1


class Params(BlockSettings):
    pass


def apply(model: Artifact, params: Params, context: Context) -> Artifact:
    from rayopt.compress.quantize_blocks import quantize_blocks

    return quantize_blocks(model, params)
