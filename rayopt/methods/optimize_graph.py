"""Removes what the graph does not need; each tool's result is kept only if proven equal and smaller."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rayopt.methods import Context
from rayopt.records import Artifact
from rayopt.spec import Settings

accepts = "onnx"
gives = "onnx"
version = 2
preserves = True


class Params(Settings):
    tools: tuple[Literal["own", "onnxoptimizer", "ort_basic", "onnxscript", "onnxslim", "onnxsim"], ...] = Field(
        ("own", "onnxoptimizer", "ort_basic"), min_length=1, description="tools to try, in order"
    )


def apply(model: Artifact, params: Params, context: Context) -> Artifact:
    from rayopt.graph.optimize import optimize

    return optimize(model, params.tools, context.data["calibration"].x, context.seed)
