"""Consecutive Transposes become one, or none; a Transpose that only moves axes of size 1 becomes a Reshape."""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite, symbolic

opset, dims = 5, True
needs = ("Transpose",)


def apply(model: ir.Model, limits: object) -> int:
    return sum(_merge(node) or _still(node) for node in facts.nodes(model) if facts.is_op(node, "Transpose"))


def _merge(node: ir.Node) -> bool:
    inner = facts.made_by(node.inputs[0], "Transpose")
    if inner is None or inner.inputs[0] is None:
        return False
    outer_perm, inner_perm = facts.attribute(node, "perm"), facts.attribute(inner, "perm")
    if outer_perm is None or inner_perm is None or len(outer_perm) != len(inner_perm):
        return False
    perm = [inner_perm[axis] for axis in outer_perm]
    if perm == sorted(perm):
        return rewrite.skip(node, inner.inputs[0])
    return facts.used_once(inner.outputs[0]) and rewrite.put(node, "Transpose", [inner.inputs[0]], {"perm": perm})


def _still(node: ir.Node) -> bool:
    """Moved axes of size 1 move no data, and a Reshape can merge with its neighbors."""
    sizes, perm = facts.dims(node.inputs[0]), facts.attribute(node, "perm")
    if sizes is None or perm is None or len(perm) != len(sizes):
        return False
    real = [axis for axis in perm if sizes[axis] != 1]
    if real != sorted(real):
        return False
    numbers = symbolic.target(sizes, [sizes[axis] for axis in perm], set())
    return numbers is not None and rewrite.put(node, "Reshape", [node.inputs[0], rewrite.store_ints(node, numbers)])
