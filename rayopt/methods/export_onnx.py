"""Turns the torch model into ONNX with a free batch size, proven to give torch's outputs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rayopt.methods import Context
from rayopt.records import Artifact
from rayopt.spec import Settings

accepts = "torch"
gives = "onnx"
version = 1
preserves = True


class Params(Settings):
    exporter: Literal["auto", "torchscript", "dynamo"] = Field(
        "auto", description="auto: the quick torchscript exporter, and dynamo where its result is not equal"
    )
    opset: int = Field(17, ge=13, le=23)


def apply(model: Artifact, params: Params, context: Context) -> Artifact:
    from rayopt.graph.export import export
    from rayopt.models.torch_model import from_artifact

    module = from_artifact(model, context.source, context.seed)
    exporters = ["torchscript", "dynamo"] if params.exporter == "auto" else [params.exporter]
    return export(module, context.data["calibration"].x, exporters, params.opset, context.seed)
