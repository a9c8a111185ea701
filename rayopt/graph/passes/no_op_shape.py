"""Takes out Reshape, Expand, Squeeze, Unsqueeze, Flatten, Tile and Pad-free layouts that provably keep every size.

Also an Unsqueeze that undoes a Squeeze of the same axes, and the other way round.
"""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite

opset, dims = 13, True
LAYOUTS = ("Reshape", "Expand", "Squeeze", "Unsqueeze", "Flatten")
REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd")
needs = (*LAYOUTS, *REDUCTIONS)
UNDONE_BY = {"Squeeze": "Unsqueeze", "Unsqueeze": "Squeeze"}


def apply(model: ir.Model, limits: object) -> int:
    return sum(_apply(node) for node in facts.nodes(model) if facts.is_op(node, *needs))


def _apply(node: ir.Node) -> bool:
    value = node.inputs[0]
    if value is None:
        return False
    if node.op_type in REDUCTIONS:
        return _reduced(node, value)
    before, after = facts.dims(value), facts.dims(node.outputs[0])
    if node.op_type in LAYOUTS and before is not None and before == after:
        return rewrite.skip(node, value)
    inner = facts.made_by(value, UNDONE_BY.get(node.op_type, ""))
    if inner is not None and inner.inputs[0] is not None:
        axes = facts.axes_of(node)
        if axes and axes == facts.axes_of(inner):  # the runtime squeezes every axis where none are named
            return rewrite.skip(node, inner.inputs[0])
    return False


def _reduced(node: ir.Node, value: ir.Value) -> bool:
    """A reduction over axes of size 1 only drops them: nothing to compute (NaN and infinity stay what they are)."""
    sizes, after = facts.dims(value), facts.dims(node.outputs[0])
    axes = facts.axes_of(node)
    if sizes is None or after is None or not axes or not all(-len(sizes) <= axis < len(sizes) for axis in axes):
        return False
    if any(sizes[axis] != 1 for axis in axes):
        return False
    if after == sizes:
        return rewrite.skip(node, value)
    if facts.attribute(node, "keepdims", 1):
        return False
    return rewrite.put(node, "Squeeze", [value, rewrite.store_ints(node, axes, "axes")])
