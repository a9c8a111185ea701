"""8-bit weights and activations, the activations' ranges found on calibration rows beforehand."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rayopt.compress.calibrate import Ranges, find_ranges
from rayopt.compress.onnx_layers import (
    check_float,
    chosen,
    excluded,
    find_layers,
    finished,
    graphs,
    prepare,
    run_tool,
)
from rayopt.compress.rewrite import fold_gemm_factors, untie
from rayopt.compress.settings import StaticSettings
from rayopt.records import Artifact

DEFAULT = StaticSettings()
WIDEST = 1e30  # a mask's least number is no value to resolve
# Operators with 8-bit kernels, and those that pass 8 bits on; Softmax and the normalisations lose accuracy and no time.
OPERATORS = (
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Relu", "Clip", "LeakyRelu", "Sigmoid", "MaxPool",
    "AveragePool", "GlobalAveragePool", "Concat", "Resize", "Pad", "Split", "Slice", "Reshape", "Flatten", "Squeeze",
    "Unsqueeze", "Transpose", "Gather", "Where",
)  # fmt: skip


def calibrate(model: Artifact, rows: Any, settings: StaticSettings = DEFAULT) -> Ranges:
    """The ranges that `quantize_static` takes in place of rows: found once, used for many variants of one model."""
    proto = prepare(model)
    check_float(proto)
    return find_ranges(proto, rows, OPERATORS, settings)


def quantize_static(
    model: Artifact,
    rows: Any,
    settings: StaticSettings = DEFAULT,
    only: Sequence[str] | None = None,
    ranges: Ranges | None = None,
) -> Artifact:
    """The model with 8-bit weights and activations; of the nodes named in `only` alone if given.

    A model that `quantize_dynamic` changed is refused; the other order works (`operators` picks what goes first).
    Nodes beside activations without bounds (masks) stay in float, as do those inside If, Loop and Scan.
    Raises StepError for rows that do not fit, and when nothing was quantised.
    """
    proto = prepare(model)
    check_float(proto)
    before = find_layers(proto)
    names = chosen(proto, only)
    left = [*excluded(proto, settings.exclude), *_not_wanted(proto, settings), *fold_gemm_factors(proto)]
    left += _clips_of_shared_values(proto, settings)
    untie(proto)
    if ranges is None:
        ranges = find_ranges(proto, rows, OPERATORS, settings)
    endless = {name for name, span in ranges.items() if not np.abs(span).max() < WIDEST} | _infinite(proto)
    unbounded = [node.name for node in proto.graph.node if endless & {*node.input, *node.output}]
    known = {name: span for name, span in ranges.items() if name not in endless}

    def tool(path: str, after: str) -> None:
        _run(path, after, known, settings, names, [*left, *unbounded])

    quantized = run_tool(proto, tool)
    return finished(before, quantized, {"unbounded_nodes_count": len(unbounded)})


def quantize_only(
    model: Artifact,
    rows: Any,
    node_names: Sequence[str],
    settings: StaticSettings = DEFAULT,
    ranges: Ranges | None = None,
) -> Artifact:
    """The model with these nodes quantised and all others in float: what each layer alone costs."""
    return quantize_static(model, rows, settings, node_names, ranges)


def _not_wanted(proto: Any, settings: StaticSettings) -> list[str]:
    """Layers of operators that are not asked for, and products of two activations where MatMul is not."""
    names = [layer.name for layer in find_layers(proto) if layer.operator not in settings.operators]
    products = [node.name for node in proto.graph.node if node.op_type == "MatMul"]
    return names + ([] if "MatMul" in settings.operators else products)


def _clips_of_shared_values(proto: Any, settings: StaticSettings) -> list[str]:
    """Relu and Clip of a value that is read elsewhere, or put out: the tool clips the value itself in their place."""
    nested = [graph for graph in graphs(proto.graph) if graph is not proto.graph]
    elsewhere = {value.name for graph in [proto.graph, *nested] for value in graph.output}
    elsewhere |= {name for graph in nested for node in graph.node for name in node.input}
    if settings.format == "qoperator":  # for QDQ the tool looks at the other readers itself
        uses = Counter(name for node in proto.graph.node for name in node.input)
        elsewhere |= {name for name, count in uses.items() if count > 1}
    clips = [node for node in proto.graph.node if node.op_type in ("Relu", "Clip")]
    return [node.name for node in clips if node.input[0] in elsewhere]


def _infinite(proto: Any) -> set[str]:
    """Constants with infinite values: masks."""
    from onnx import numpy_helper

    floats = [tensor for tensor in proto.graph.initializer if tensor.data_type == tensor.FLOAT]
    return {tensor.name for tensor in floats if np.isinf(numpy_helper.to_array(tensor)).any()}


def _run(
    path: str, after: str, ranges: Ranges, settings: StaticSettings, only: Sequence[str], left: Sequence[str]
) -> None:
    """ONNX Runtime's tool with ranges in place of its own calibration, which holds all activations in memory."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data

    types = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8, "uint16": QuantType.QUInt16}
    data = {name: (np.array(low, np.float32), np.array(high, np.float32)) for name, (low, high) in ranges.items()}
    options: dict[str, Any] = {"ActivationSymmetric": settings.symmetric}
    with tempfile.TemporaryDirectory(prefix="rayopt-") as folder:
        known = Path(folder) / "ranges.json"
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, data), known)
        quantize_static(
            path, after, None,
            quant_format=QuantFormat.QDQ if settings.format == "qdq" else QuantFormat.QOperator,
            op_types_to_quantize=list(OPERATORS), per_channel=settings.per_channel,
            reduce_range=settings.reduce_range, activation_type=types[settings.activations],
            weight_type=types[settings.weights], nodes_to_quantize=list(only), nodes_to_exclude=list(left),
            calibrate_method=CalibrationMethod.MinMax, extra_options=options, calibration_cache_path=known,
        )  # fmt: skip
