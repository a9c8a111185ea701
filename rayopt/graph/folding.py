"""How many bytes a model's constants fold to, told from shapes alone: a file of 300 bytes can fold to terabytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rayopt.graph.few_numbers import FEW, FewNumbers
from rayopt.graph.structure import graphs_of, nested
from rayopt.graph.tensors import element_bits

RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
UNBOUNDED = 1 << 62  # what is constant and of a size that cannot be told
MAX_RANGE = 1 << 20
Size = tuple[tuple[int, ...] | None, int]  # the shape and the type


def folded_bytes(model: Any) -> tuple[int, str]:
    """The bytes of all constants that are computed from constants, and which of them is the largest.

    Works on what shape inference tells, without large weights; what it cannot tell counts as nothing.
    """
    import onnx

    if not _has_constants(model):
        return 0, ""
    light = light_copy(model)
    total: dict[str, int] = {}
    ranges = _written_out(light, total)
    try:
        # The inference writes ranges out, whatever their length.
        inferred = onnx.shape_inference.infer_shapes(light, data_prop=ranges <= MAX_RANGE)
    except MemoryError:
        return UNBOUNDED, "a shape"
    except Exception:  # noqa: BLE001 - a model that it fails on may still be a good one
        inferred = light
    constants = {one.name for one in model.graph.initializer} - overridable(model)
    if MAX_RANGE < ranges < UNBOUNDED:
        total["a range"] = 8 * ranges
    _walk(inferred.graph, frozenset(constants), {}, total)
    largest = max(total, key=lambda name: total[name], default="")
    return sum(total.values()), largest


def overridable(model: Any) -> set[str]:
    """The initialisers that callers may give other values; files of IR versions before 4 have none such."""
    if model.ir_version < 4:
        return set()
    return {one.name for one in model.graph.input} & {one.name for one in model.graph.initializer}


def _has_constants(model: Any) -> bool:
    """Whether there is anything at all that could be folded: initialisers, or nodes without inputs."""
    return any(
        getattr(graph, "initializer", ()) or any(not node.input or node.op_type == "Constant" for node in graph.node)
        for graph in graphs_of(model)
    )


def _written_out(model: Any, total: dict[str, int]) -> int:
    """The length of the longest range of constants in a model, 0 where there is none, UNBOUNDED where it is not known.

    What is filled to a constant shape goes into `total`, by name: shape inference does not look into branches.
    """
    longest = 0
    few = FewNumbers(next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 1))
    stack: list[tuple[Any, dict[str, Any]]] = [(model.graph, {})]
    while stack:
        graph, outer = stack.pop()
        values: dict[str, Any] = dict(outer)
        values.update({one.name: _small(one) for one in graph.initializer})
        for one in graph.input:
            values.pop(one.name, None)
        for node in graph.node:
            stack += [(one, values) for one in nested(node)]
            if node.op_type == "Constant" or not all(name in values for name in node.input if name):
                if node.op_type == "Constant":
                    values[node.output[0]] = _constant(node)
                continue
            given = [values[name] for name in node.input if name]
            if node.op_type == "Range":
                longest = max(longest, _length(given))
            elif node.op_type in ("ConstantOfShape", "Expand") and given[-1] is not None:
                total[node.output[0]] = 4 * math.prod(max(0, int(one)) for one in given[-1].ravel())
            values.update(zip(node.output, few.values(node, given), strict=False))
    return longest


def _length(given: list[Any]) -> int:
    if any(one is None for one in given) or len(given) != 3:
        return UNBOUNDED
    start, limit, delta = (float(one.ravel()[0]) for one in given)
    return max(0, math.ceil((limit - start) / delta)) if delta and math.isfinite((limit - start) / delta) else UNBOUNDED


def _small(tensor: Any) -> Any:
    """The value of a tensor of a few numbers, None for others."""
    from onnx import numpy_helper

    if tensor.data_location == 1 or math.prod(tensor.dims) > FEW or tensor.data_type == 8:
        return None
    return numpy_helper.to_array(tensor)


def _constant(node: Any) -> Any:
    import numpy as np

    for attribute in node.attribute:
        if attribute.name == "value":
            return _small(attribute.t)
        if attribute.name in ("value_int", "value_float"):
            return np.asarray(attribute.i if attribute.name == "value_int" else attribute.f)
    return None


def light_copy(model: Any, keep_bytes: int = 1024) -> Any:
    """A copy whose initialisers of more than `keep_bytes` have become inputs of the same type and shape."""
    import onnx

    light = onnx.ModelProto()
    light.ir_version = max(4, model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    graph = light.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    constants = {one.name for one in model.graph.initializer} - overridable(model)
    graph.input.extend(one for one in model.graph.input if one.name not in constants)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    inputs = {one.name for one in graph.input}
    for tensor in model.graph.initializer:
        if tensor.data_location != 1 and tensor.ByteSize() <= keep_bytes:
            graph.initializer.append(tensor)
        elif tensor.name not in inputs:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            graph.input.append(info)
    return light


def _walk(graph: Any, constants: frozenset[str], sizes: Mapping[str, Size], total: dict[str, int]) -> None:
    known = set(constants) | ({one.name for one in graph.initializer} - {one.name for one in graph.input})
    here: dict[str, Size] = dict(sizes)
    for info in (*graph.value_info, *graph.output, *graph.input):
        if info.type.HasField("tensor_type"):
            here[info.name] = _size(info.type.tensor_type)
    for tensor in graph.initializer:
        here[tensor.name] = (tuple(tensor.dims), tensor.data_type)
    for node in graph.node:
        inner = nested(node)
        for one in inner:
            _walk(one, frozenset(known), here, total)
        if node.op_type in RANDOM or inner or not all(name in known for name in node.input if name):
            continue
        for name in node.output:
            known.add(name)
            if node.op_type != "Constant":
                shape, kind = here.get(name, (None, 0))
                total[name] = _bytes(shape, kind) if shape is not None else total.get(name, 0)


def _size(told: Any) -> Size:
    if not told.HasField("shape"):
        return None, told.elem_type
    dims = told.shape.dim
    if not all(one.HasField("dim_value") and one.dim_value >= 0 for one in dims):
        return None, told.elem_type
    return tuple(one.dim_value for one in dims), told.elem_type


def _bytes(shape: tuple[int, ...], kind: int) -> int:
    bits = element_bits(kind) or 32
    return math.prod(shape) * bits // 8
