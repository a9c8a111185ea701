"""A Cast of a Cast goes straight to the last type, where the one between holds every number of the first.

It keeps the attributes of the last one. What rounds and saturates in ways of its own (float8) is left alone.
"""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite

opset, dims = 9, True
needs = ("Cast",)
T = ir.DataType
PLAIN = {T.BOOL, T.UINT8, T.INT8, T.INT32, T.INT64, T.FLOAT16, T.FLOAT, T.DOUBLE}  # no rounding of their own
HOLDS = {
    T.BOOL: {T.UINT8, T.INT8, T.INT32, T.INT64, T.FLOAT, T.DOUBLE, T.FLOAT16},
    T.UINT8: {T.INT32, T.INT64, T.FLOAT, T.DOUBLE},
    T.INT8: {T.INT32, T.INT64, T.FLOAT, T.DOUBLE},
    T.INT32: {T.INT64, T.DOUBLE},
    T.FLOAT16: {T.FLOAT, T.DOUBLE},
    T.FLOAT: {T.DOUBLE},
}


def apply(model: ir.Model, limits: object) -> int:
    return sum(_apply(node) for node in facts.nodes(model) if facts.is_op(node, "Cast"))


def _apply(node: ir.Node) -> bool:
    inner = facts.made_by(node.inputs[0], "Cast")
    if inner is None or inner.inputs[0] is None:
        return False
    first, between, last = facts.dtype(inner.inputs[0]), facts.attribute(inner, "to"), facts.attribute(node, "to")
    if first is None or T(between) not in HOLDS.get(first, ()) or T(last) not in PLAIN:
        return False
    if T(last) == first:
        return rewrite.skip(node, inner.inputs[0])
    return facts.used_once(inner.outputs[0]) and _straight(node, inner.inputs[0])


def _straight(node: ir.Node, value: ir.Value) -> bool:
    return rewrite.put(node, "Cast", [value], {name: one.value for name, one in node.attributes.items()})
