"""Quantisation of ONNX models by ONNX Runtime's own tools, with defaults that know the operators."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rayopt.data.rows import Rows
from rayopt.errors import StepError
from rayopt.models.onnx_model import MODEL, from_proto, on_disk, session, signature, to_proto
from rayopt.records import Artifact

Array = np.ndarray[Any, Any]
DYNAMIC = {"MatMulInteger", "ConvInteger", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "DequantizeLinear"}
Calibration = Literal["minmax", "entropy", "percentile"]


def quantize_dynamic(model: Artifact, per_channel: bool) -> Artifact:
    """8-bit weights, activations quantised as they come; raises StepError when nothing was quantised."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_dynamic as tool

    def run(before: Path, after: Path) -> None:
        tool(str(before), str(after), per_channel=per_channel, weight_type=QuantType.QInt8)

    return _quantized(model, run, DYNAMIC)


def quantize_static(model: Artifact, rows: Rows, per_channel: bool, calibration: Calibration) -> Artifact:
    """U8 activations with ranges from `rows`, S8 weights, as QDQ; raises StepError when nothing was quantised."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as tool

    method = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }[calibration]
    takes = signature(session(model))
    size = takes.fixed_batch or 32
    usable = len(rows) - len(rows) % takes.fixed_batch if takes.fixed_batch else len(rows)
    batches = [takes.feed(rows[i : i + size]) for i in range(0, usable, size)]
    if not batches:
        raise StepError(f"{len(rows)} calibration rows do not fill one batch of {size}")

    def run(before: Path, after: Path) -> None:
        tool(
            str(before), str(after), _Reader(batches), quant_format=QuantFormat.QDQ, per_channel=per_channel,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=method,
        )  # fmt: skip

    return _quantized(model, run, {"QuantizeLinear"})


class _Reader:
    """Calibration batches in the form that ONNX Runtime asks for."""

    def __init__(self, batches: list[dict[str, Array]]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._batches, None)


def _quantized(model: Artifact, run: Callable[[Path, Path], None], marks: set[str]) -> Artifact:
    """The model after `run`, shapes inferred and constants folded first; notes count the quantised nodes."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    whole = model if len(model.files) == 1 else from_proto(to_proto(model))  # the tools copy the one file only
    with on_disk(whole) as path, tempfile.TemporaryDirectory(prefix="rayopt-") as folder, _quiet():
        prepared, after = Path(folder) / "prepared.onnx", Path(folder) / MODEL
        try:
            quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
            run(prepared, after)
        except Exception as error:
            raise StepError(f"ONNX Runtime cannot quantise the model: {type(error).__name__}: {error}") from error
        proto = onnx.load(str(after))
    count = sum(node.op_type in marks for node in proto.graph.node)
    if count == 0:
        kinds = sorted({node.op_type for node in proto.graph.node})
        raise StepError(f"no node was quantised (operators: {', '.join(kinds[:8])})")
    return from_proto(proto, {"quantized_nodes_count": count})


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the tools' advice to developers out of the user's terminal; errors come through."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
