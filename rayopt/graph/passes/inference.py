"""Finds the dims and types of all values from the graph's inputs and constants, by onnx's own shape inference.

Declared shapes inside the graph and of its outputs are left out: files lie. Each unknown size of an input is a symbol
of its own, even where the file gives two the same name, since no runtime holds them to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
import onnx_ir as ir

from rayopt.graph.passes import facts, propagation
from rayopt.graph.structure import nested

SMALL_BYTES = 1024  # larger constants are told by their shape alone


def infer(model: ir.Model) -> None:
    """Notes `dims` and `dtype` in the values' meta; where the inference fails, nothing is known."""
    with _bare(model):
        proto = ir.to_proto(model)
    _carry(proto.graph)
    try:
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception:  # noqa: BLE001  a model that it does not take is one of which nothing is known
        _forget(model)
        return
    _note(model.graph, proto.graph)
    propagation.propagate(model)


def _carry(proto: Any) -> None:
    """Small constants are repeated in the bodies that use them: the inference does not look outside of a body."""
    waiting: list[tuple[Any, dict[str, Any]]] = [(proto, {})]
    while waiting:
        graph, outer = waiting.pop()
        if graph is not proto:
            own = {name for node in graph.node for name in node.output}
            own |= {one.name for one in (*graph.input, *graph.initializer)}
            if not own.isdisjoint(outer):
                outer = {name: one for name, one in outer.items() if name not in own}
            used = {name for node in graph.node for name in node.input}
            graph.initializer.extend(outer[name] for name in sorted(used & outer.keys()))
        inner = [body for node in graph.node if node.attribute for body in nested(node)]
        if inner:
            known = outer | {one.name: one for one in graph.initializer} | _constants(graph)
            waiting.extend((body, known) for body in inner)


def _constants(graph: Any) -> dict[str, Any]:
    found = {}
    for node in graph.node:
        if node.op_type == "Constant" and not node.domain and node.attribute and node.attribute[0].name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            if tensor.ByteSize() <= SMALL_BYTES:
                found[tensor.name] = tensor
    return found


def _note(graph: ir.Graph, proto: Any) -> None:
    """Walks a graph and its inferred twin side by side."""
    waiting = [(graph, proto)]
    while waiting:
        one, twin = waiting.pop()
        known = {info.name: info.type for info in (*twin.input, *twin.value_info, *twin.output)}
        for value in one.inputs:
            _put(value, known)
        for node, node_twin in zip(one, twin.node, strict=True):
            for value in node.outputs:
                _put(value, known)
            if node.attributes:
                waiting.extend(zip(facts.bodies(node), nested(node_twin), strict=True))


def _put(value: ir.Value, known: dict[str, Any]) -> None:
    found = known.get(value.name or "")
    value.meta[facts.DIMS] = value.meta[facts.DTYPE] = None
    if found is None or not found.HasField("tensor_type"):
        return
    kind = found.tensor_type
    value.meta[facts.DTYPE] = ir.DataType(kind.elem_type) if kind.elem_type else None
    if kind.HasField("shape"):
        value.meta[facts.DIMS] = tuple(_dim(one) for one in kind.shape.dim)


def _dim(dim: Any) -> facts.Dim:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    return str(dim.dim_param) if dim.dim_param else f"?{next(facts.UNKNOWN)}"


@contextmanager
def _bare(model: ir.Model) -> Iterator[None]:
    """The model without declared shapes and large weights for as long as the context lasts."""
    graph = model.graph
    inputs = list(graph.inputs)
    declared: list[tuple[ir.Value, Any, Any]] = []
    held = [one for one in graph.initializers.values() if _untold(one)]
    for one in held:
        if one.const_value is not None and not one.is_graph_input():
            one.shape = ir.Shape([int(str(size)) for size in one.const_value.shape])
            one.type = ir.TensorType(ir.DataType(one.const_value.dtype))
    for inner in facts.graphs(model):
        for value in (*inner.inputs, *(out for node in inner for out in node.outputs)):
            declared.append((value, value.shape, value.type))
            is_input = inner is graph and value.is_graph_input()
            value.shape = _symbols(value, inputs) if is_input else None
            if not is_input and not value.is_graph_output():
                value.type = None
    squeezed = [node for node in facts.nodes(model) if node.op_type == "Squeeze" and _all_axes(node)]
    axes = [node.inputs[1] for node in squeezed]
    for node in squeezed:
        node.replace_input_with(1, None)
    for one in held:
        graph.initializers.pop(str(one.name))
        if not one.is_graph_input():
            graph.inputs.append(one)
    try:
        yield
    finally:
        graph.inputs.clear()
        graph.inputs.extend(inputs)
        for one in held:
            graph.initializers.add(one)
        for node, named in zip(squeezed, axes, strict=True):
            node.replace_input_with(1, named)
        for value, shape, kind in declared:
            value.shape, value.type = shape, kind


def _all_axes(node: ir.Node) -> bool:
    """Whether a list of no axes is given: the runtime squeezes all axes of size 1 then, the inference none."""
    return facts.given(node, 1) is not None and facts.ints(node.inputs[1]) == []


def _symbols(value: ir.Value, inputs: list[ir.Value]) -> ir.Shape | None:
    if value.shape is None:
        return None
    place = inputs.index(value)
    return ir.Shape(
        [one if isinstance(one, int) and one >= 0 else f"i{place}d{axis}" for axis, one in enumerate(value.shape)]
    )


def _forget(model: ir.Model) -> None:
    for graph in facts.graphs(model):
        for value in (*graph.inputs, *(out for node in graph for out in node.outputs)):
            value.meta[facts.DIMS] = value.meta[facts.DTYPE] = None


def _untold(value: ir.Value) -> bool:
    """Whether the inference is not told the numbers: there are many of them, or they are only an input's default."""
    return value.const_value is None or value.const_value.nbytes > SMALL_BYTES or value.is_graph_input()
