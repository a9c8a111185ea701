"""Packs weights in 2 to 16 bits each; they are decoded once, when the model is loaded, and run as before."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from rayopt.errors import StepError
from rayopt.methods import Context
from rayopt.records import Artifact
from rayopt.spec import Settings

accepts = "onnx"
gives = "onnx"
version = 1


class Params(Settings):
    bits: int = Field(8, ge=2, le=16, description="bits per weight")
    per_channel: bool = Field(True, description="a scale for each output channel instead of one for the tensor")
    symmetric: bool = Field(
        True, description="the same range on both sides of zero; else a zero point is stored as well"
    )
    layers: dict[str, Annotated[int, Field(ge=0, le=32)]] = Field(
        {}, description="other bits by layer name or pattern, 0 or 32 for float"
    )
    average_bits: float | None = Field(
        None, ge=2, le=8, description="instead of `bits`: chosen for each layer by what it does to the outputs"
    )
    min_size: int = Field(256, ge=1, description="tensors of fewer weights stay in float")

    @field_validator("layers")
    @classmethod
    def _possible(cls, layers: dict[str, int]) -> dict[str, int]:
        for name, bits in layers.items():
            if bits not in (0, 32) and not 2 <= bits <= 16:
                raise ValueError(f"{name} has 2 to 16 bits, or 0 or 32 for float")
        return layers


def apply(model: Artifact, params: Params, context: Context) -> Artifact:
    from dataclasses import replace

    from rayopt.compress.onnx_weights import quantize_weights, raised
    from rayopt.compress.sensitivity import mixed_bits
    from rayopt.compress.weights import Plan
    from rayopt.graph.verify import probes, same_outputs

    rows = context.data["calibration"].x
    ready = raised(model)
    if ready is not model:
        same_outputs(model, ready, probes(rows, context.seed))
    plan = Plan(params.bits, params.per_channel, params.symmetric, params.layers, params.min_size)
    if params.average_bits is not None:
        chosen = mixed_bits(ready, rows[:512], params.average_bits, plan)
        plan = replace(plan, layers={**chosen, **params.layers})
    after = quantize_weights(ready, plan)
    if not after.notes["folded"]:
        raise StepError("ONNX Runtime would decode the weights at every call instead of once")
    return after
