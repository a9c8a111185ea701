"""A Concat inside a Concat of the same axis, used there alone, becomes part of the outer one."""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite

opset, dims = 4, True
needs = ("Concat",)


def apply(model: ir.Model, limits: object) -> int:
    return sum(_apply(node) for node in facts.nodes(model) if facts.is_op(node, "Concat"))


def _apply(node: ir.Node) -> bool:
    inputs: list[ir.Value | None] = []
    for value in node.inputs:
        inner = facts.made_by(value, "Concat")
        if inner is not None and value is not None and facts.used_once(value) and _same_axis(node, inner):
            inputs.extend(inner.inputs)
        else:
            inputs.append(value)
    if len(inputs) == len(node.inputs):
        return False
    return rewrite.put(node, "Concat", inputs, {"axis": facts.attribute(node, "axis")})


def _same_axis(node: ir.Node, inner: ir.Node) -> bool:
    ours, theirs, rank = facts.attribute(node, "axis"), facts.attribute(inner, "axis"), facts.rank(node.outputs[0])
    return bool(ours == theirs or (rank is not None and ours % rank == theirs % rank))
