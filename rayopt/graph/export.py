"""torch to ONNX, proven: the file gives the module's outputs at several batch sizes, or there is no file."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from rayopt.data.rows import Columns, Rows, arrays_of
from rayopt.errors import StepError
from rayopt.graph.verify import difference, probes
from rayopt.models.onnx_model import MODEL, predict, session
from rayopt.records import Artifact

INPUT, OUTPUT = "input", "output"


def export(module: nn.Module, rows: Rows, exporters: Sequence[str], opset: int, seed: int) -> Artifact:
    """The first exporter's file that is proven equal; raises StepError with every exporter's reason when none is."""
    if isinstance(rows, Columns):
        raise StepError("models with several inputs cannot be exported here: give the ONNX file")
    inputs = probes(rows, seed)
    reasons = []
    for exporter in exporters:
        try:
            artifact = Artifact("onnx", {MODEL: _export(module, torch.tensor(rows[:2]), exporter, opset)})
            error = _proven(module, artifact, inputs)
            return Artifact("onnx", artifact.files, {"exporter": exporter, "opset": opset, "max_error": error})
        except StepError as failure:
            reasons.append(f"{exporter}: {failure}")
    raise StepError("the model cannot be exported: " + "; ".join(reasons))


def _export(module: nn.Module, example: torch.Tensor, exporter: str, opset: int) -> bytes:
    buffer = io.BytesIO()
    names: dict[str, Any] = {"input_names": [INPUT], "output_names": [OUTPUT], "opset_version": opset}
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # the torchscript exporter warns that it is old, and of every constant
            if exporter == "torchscript":
                axes = {INPUT: {0: "batch"}, OUTPUT: {0: "batch"}}
                torch.onnx.export(module, (example,), buffer, dynamo=False, dynamic_axes=axes, **names)  # type: ignore[arg-type]
                return buffer.getvalue()
            shapes = ({0: torch.export.Dim("batch")},)
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                dynamic_shapes=shapes,
                external_data=False,
                verbose=False,
                **names,
            )
            return bytes(program.model_proto.SerializeToString(deterministic=True))  # type: ignore[union-attr]
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise StepError(f"{type(error).__name__}: {first}") from error


def _proven(module: nn.Module, artifact: Artifact, inputs: Sequence[Rows]) -> float:
    running = session(artifact, optimize=False)
    worst = 0.0
    for rows in inputs:
        with torch.no_grad():
            wanted = module(torch.tensor(arrays_of(rows)[""])).numpy()
        worst = max(worst, difference(wanted, predict(running, rows)))
    return worst
