"""(x - mean) / sqrt(variance + eps) * gamma + beta over the last axis becomes LayerNormalization.

Ba, Kiros, Hinton, "Layer Normalization", 2016. Inner results may be used inside the pattern alone; gamma and beta must
be constants of the last axis' size, or are left out.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rayopt.graph.passes import facts, match, rewrite

opset, dims = 17, True
needs = ("ReduceMean",)


def apply(model: ir.Model, limits: object) -> int:
    return sum(_apply(node) for node in facts.nodes(model) if facts.is_op(node, "Div", "Mul"))


def _apply(node: ir.Node) -> bool:
    found = _normalized(node)
    if found is None:
        return False
    value, epsilon = found
    sizes, kind = facts.dims(value), facts.dtype(value)
    if not sizes or not isinstance(sizes[-1], int) or kind not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
        return False
    width, last = sizes[-1], node
    if not width:
        return False  # the runtime's operator takes no empty axis
    gamma = beta = None
    scaled = facts.only_user(node.outputs[0], "Mul")
    if scaled is not None and (gamma := vector(scaled, node.outputs[0], width)) is not None:
        last = scaled
        shifted = facts.only_user(scaled.outputs[0], "Add")
        if shifted is not None and (beta := vector(shifted, scaled.outputs[0], width)) is not None:
            last = shifted
    if gamma is None:
        gamma = rewrite.store(node, np.ones(width, kind.numpy()), "gamma")
    inputs = [value, gamma] if beta is None else [value, gamma, beta]
    return rewrite.put(last, "LayerNormalization", inputs, {"axis": -1, "epsilon": epsilon})


def _normalized(node: ir.Node) -> tuple[ir.Value, float] | None:
    """x and epsilon of what gives (x - mean) / sqrt(variance + epsilon)."""
    for centered, other in match.pairs(node) if node.op_type == "Mul" else match.pairs(node)[:1]:
        root = facts.made_by(other if node.op_type == "Div" else match.inverted(other), "Sqrt")
        added = match.with_number(facts.made_by(root.inputs[0], "Add")) if root is not None else None
        if added is None or not facts.used_once(added[0]):
            continue
        mean = facts.made_by(added[0], "ReduceMean")
        if mean is None or not is_over_last_axis(mean) or match_square(mean.inputs[0]) is not centered:
            continue
        value = _centered(centered)
        if value is not None and added[1] > 0 and len(centered.uses()) <= 3:
            return value, added[1]
    return None


def match_square(value: ir.Value | None) -> ir.Value | None:
    """The x of x ** 2 or x * x."""
    node = facts.made_by(value, "Pow", "Mul")
    if node is None:
        return None
    if node.op_type == "Mul":
        return node.inputs[0] if node.inputs[0] is node.inputs[1] else None
    found = match.with_number(node)
    return found[0] if found is not None and found[1] == 2.0 else None


def _centered(value: ir.Value) -> ir.Value | None:
    """The x of x - mean(x)."""
    node = facts.made_by(value, "Sub")
    mean = facts.made_by(node.inputs[1], "ReduceMean") if node is not None else None
    if node is None or mean is None or not is_over_last_axis(mean) or mean.inputs[0] is not node.inputs[0]:
        return None
    return node.inputs[0]


def is_over_last_axis(mean: ir.Node) -> bool:
    axes, rank = facts.axes_of(mean), facts.rank(mean.inputs[0])
    return facts.attribute(mean, "keepdims", 1) == 1 and (axes == [-1] or (rank is not None and axes == [rank - 1]))


def vector(node: ir.Node, value: ir.Value, width: int) -> ir.Value | None:
    """The other operand where it is a constant vector of the last axis; axes of size 1 before it are left out."""
    other = node.inputs[1] if node.inputs[0] is value else node.inputs[0]
    sizes = facts.static(other) if facts.is_constant(other) else None
    if not sizes or sizes == (width,):
        return other if sizes else None
    known, rank = facts.constant(other), facts.rank(value)
    if known is None or rank is None or len(sizes) > rank or sizes != (*[1] * (len(sizes) - 1), width):
        return None
    return rewrite.store(node, known.reshape(width), "vector")
