"""Consecutive Reshape, Squeeze, Unsqueeze and Flatten become one Reshape, where one -1 is enough to say the result."""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite, symbolic

opset, dims = 5, True
needs = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")
LAYOUTS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")


def apply(model: ir.Model, limits: object) -> int:
    return sum(_apply(node) for node in facts.nodes(model) if facts.is_op(node, *LAYOUTS))


def _apply(node: ir.Node) -> bool:
    inner = facts.made_by(node.inputs[0], *LAYOUTS)
    if inner is None or not facts.used_once(inner.outputs[0]) or inner.inputs[0] is None:
        return False
    source, wanted = facts.dims(inner.inputs[0]), facts.dims(node.outputs[0])
    numbers = symbolic.target(source, wanted, symbolic.never_empty(inner) | symbolic.never_empty(node))
    if numbers is None:
        return False
    return rewrite.put(node, "Reshape", [inner.inputs[0], rewrite.store_ints(node, numbers)])
