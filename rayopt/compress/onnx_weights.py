"""Weights of ONNX models packed at any width, decoded by standard operators that a runtime folds when it loads them.

All tensors of one width lie in one run of bytes, so that the nodes that decode it are there once. DequantizeLinear is
not among them: ONNX Runtime does not fold it, and would run it at every call.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rayopt.compress.decoder import Decoder, check_decoded
from rayopt.compress.weights import FLOAT32_MAX, Codes, Plan, check_finite, quantize
from rayopt.errors import StepError
from rayopt.models.onnx_model import MODEL, from_proto, to_proto
from rayopt.records import Artifact

Array = np.ndarray[Any, Any]
MIN_OPSET = 13
NODE_BYTES = 200  # about what the nodes, names and shapes of one packed tensor take
RECURRENT = ("LSTM", "GRU", "RNN")
LIMITS = {"float16": 65504.0, "int8": 127.0}


@dataclass(frozen=True)
class Weight:
    """An initializer that a layer computes with; `axes` number its output channels, `layer` is its name for people."""

    name: str
    layer: str
    axes: tuple[int, ...]
    tensor: Array


def weight_layers(model: Artifact) -> list[tuple[str, int]]:
    """The layers whose weights can be packed, by name, with their number of elements."""
    return [(one.layer, one.tensor.size) for one in find_weights(to_proto(model))]


def quantize_weights(model: Artifact, plan: Plan) -> Artifact:
    """The model with its weights packed in `plan.bits` bits each; raises StepError when none was.

    int8 weights of a statically quantised model are packed too, where that makes them smaller: they decode to int8
    again. The decoded weights are proven equal to the simulated ones, and that ONNX Runtime folds them is looked at.
    """
    proto = to_proto(model)
    codes = coded(find_weights(proto), plan)
    if not codes:
        raise StepError(f"no weights were packed: {_why_none(proto, plan)}")
    decoded = {weight.name: decode(weight, packed) for weight, packed in codes}
    before = sum(weight.tensor.nbytes for weight, _ in codes)
    own = Decoder(proto, [(weight.name, packed, weight.tensor.dtype) for weight, packed in codes])
    own.write()
    check_decoded(proto, decoded)
    after = from_proto(proto)
    count = sum(weight.tensor.size for weight, _ in codes)
    notes = {
        "bits": {weight.layer: packed.bits for weight, packed in codes},
        "average_bits": sum(weight.tensor.size * packed.bits for weight, packed in codes) / count,
        "packed_weights_count": count,
        "weight_bytes_before": before,
        "folded": not any(own.made(node) for node in optimized(after).graph.node),
    }
    return Artifact("onnx", after.files, notes)


def simulate(model: Artifact, plan: Plan) -> Artifact:
    """The model with the weights that `quantize_weights` gives, unpacked: as large as before."""
    proto = to_proto(model)
    return replaced(proto, {weight.name: decode(weight, packed) for weight, packed in coded(find_weights(proto), plan)})


def replaced(proto: Any, tensors: Mapping[str, Array]) -> Artifact:
    """An artifact of `proto` with other contents for some initializers."""
    from onnx import numpy_helper

    for initializer in proto.graph.initializer:
        if initializer.name in tensors:
            initializer.CopyFrom(numpy_helper.from_array(tensors[initializer.name], initializer.name))
    return from_proto(proto)


def coded(weights: Sequence[Weight], plan: Plan) -> list[tuple[Weight, Codes]]:
    """The codes of every weight that is worth packing under `plan`; raises StepError for NaN and infinite ones."""
    bits = plan.bits_of({one.name: {one.name, one.layer} for one in weights})
    chosen = []
    for one in weights:
        axes = one.axes if plan.per_channel else ()
        if bits[one.name] and one.tensor.size >= plan.min_size and _saves(one, bits[one.name], axes, plan.symmetric):
            check_finite(one.layer, one.tensor)
            limit = LIMITS.get(one.tensor.dtype.name, FLOAT32_MAX)
            chosen.append((one, quantize(one.tensor, bits[one.name], axes, plan.symmetric, limit)))
    return chosen


def decode(weight: Weight, codes: Codes) -> Array:
    """What the nodes compute, in the type of the weight."""
    tensor = codes.decoded()
    if weight.tensor.dtype == np.int8:
        return np.rint(tensor).astype(np.int8)
    return tensor.astype(weight.tensor.dtype)


def find_weights(proto: Any) -> list[Weight]:
    """The weights of all layers in the main graph, each once, in the order in which they are used."""
    from onnx import numpy_helper

    _hoist_constants(proto)
    initializers = {one.name: one for one in proto.graph.initializer}
    seen: dict[str, tuple[str, list[int]]] = {}  # values that are an initializer, transposed: its axes in their order
    found: dict[str, Weight] = {}
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            root, order = seen.get(
                name, (name, list(range(len(initializers[name].dims))) if name in initializers else [])
            )
            if root not in initializers or not _packable(initializers[root]):
                continue
            if node.op_type in ("Identity", "Transpose"):
                perm = _attribute(node, "perm", list(range(len(order)))[::-1]) if node.op_type == "Transpose" else None
                seen[node.output[0]] = (root, [order[axis] for axis in perm] if perm else order)
                continue
            axes = _channel_axes(node, index, len(order), initializers)
            if axes is not None and root not in found:
                layer = node.name if "::" in root and node.name else root
                own = tuple(sorted(order[axis] for axis in axes))
                found[root] = Weight(root, layer, own, numpy_helper.to_array(initializers[root]))
    return list(found.values())


def raised(model: Artifact) -> Artifact:
    """The model in the least opset that can decode weights, or as it is; the caller proves that it is equal."""
    import onnx

    proto = to_proto(model)
    if all(one.version >= MIN_OPSET for one in proto.opset_import if one.domain in ("", "ai.onnx")):
        return model
    try:
        return from_proto(onnx.version_converter.convert_version(proto, MIN_OPSET))
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StepError(f"the model cannot be raised to opset {MIN_OPSET}: {first}") from error


def _channel_axes(node: Any, index: int, rank: int, initializers: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The axes of an input that number the output channels, where that input is a layer's weights; None elsewhere."""
    kind = node.op_type
    if rank < 2:
        return None
    if kind == "Conv" or kind == "ConvInteger":
        return (0,) if index == 1 else None
    if kind == "ConvTranspose":
        return (1,) if index == 1 else None
    if kind in ("MatMul", "MatMulInteger"):
        shared = {1: rank - 2, 0: rank - 1}.get(index)
        return tuple(axis for axis in range(rank) if axis != shared) if shared is not None else None
    if kind == "Gemm":
        return ((0,) if _attribute(node, "transB", 0) else (1,)) if index == 1 else None
    if kind in RECURRENT:
        return (0, 1) if index in (1, 2) else None
    if kind == "Gather":
        return (0,) if index == 0 and _attribute(node, "axis", 0) == 0 else None
    if kind == "DequantizeLinear" and index == 0 and node.input[1] in initializers:
        several = int(np.prod(initializers[node.input[1]].dims, dtype=np.int64)) > 1
        return (_attribute(node, "axis", 1) % rank,) if several else (0,)
    return None


def _packable(initializer: Any) -> bool:
    from onnx import TensorProto

    return initializer.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT8)


def _saves(weight: Weight, bits: int, axes: tuple[int, ...], symmetric: bool) -> bool:
    """Whether packing makes the file smaller, scales and nodes counted."""
    channels = int(np.prod([weight.tensor.shape[axis] for axis in axes], dtype=np.int64))
    packed = weight.tensor.size * bits / 8 + channels * (4 if symmetric else 8) + NODE_BYTES
    return packed < weight.tensor.nbytes


def _why_none(proto: Any, plan: Plan) -> str:
    weights = find_weights(proto)
    if not weights:
        kinds = sorted({node.op_type for node in proto.graph.node})
        return f"no layer has constant weights (operators: {', '.join(kinds[:8])})"
    largest = max(one.tensor.size for one in weights)
    types = ", ".join(sorted({str(one.tensor.dtype) for one in weights}))
    return (
        f"the largest of {len(weights)} has {largest} elements ({types}): `min_size` {plan.min_size} or `layers` leaves"
        f" all as they are, or {plan.bits} bits would not be smaller"
    )


def _hoist_constants(proto: Any) -> None:
    """Makes initializers of the tensors in Constant nodes, except of those that are the model's outputs."""
    kept, outputs = [], {one.name for one in proto.graph.output}
    for node in proto.graph.node:
        value = next((one.t for one in node.attribute if one.name == "value"), None)
        if node.op_type == "Constant" and value is not None and node.output[0] not in outputs:
            proto.graph.initializer.add().CopyFrom(value)
            proto.graph.initializer[-1].name = node.output[0]
        else:
            kept.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(kept)


def optimized(model: Artifact) -> Any:
    """The ModelProto that ONNX Runtime makes of the model at its basic level, as it folds constants."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="rayopt-") as folder:
        path = Path(folder) / MODEL
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 4
        try:
            onnxruntime.InferenceSession(model.files[MODEL], options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise StepError(f"ONNX Runtime does not load the model: {error}") from error
        return onnx.load(str(path))


def _attribute(node: Any, name: str, default: Any) -> Any:
    from onnx import helper

    return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)
