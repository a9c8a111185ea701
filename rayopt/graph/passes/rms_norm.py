"""x / sqrt(mean(x ** 2) + eps) * gamma over the last axis becomes RMSNormalization.

Zhang, Sennrich, "Root Mean Square Layer Normalization", 2019. Inner results may be used inside the pattern alone; gamma
must be a constant of the last axis' size, or is left out.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rayopt.graph.passes import facts, match, rewrite
from rayopt.graph.passes.layer_norm import is_over_last_axis, match_square, vector

opset, dims = 23, True
needs = ("ReduceMean",)


def apply(model: ir.Model, limits: object) -> int:
    return sum(_apply(node) for node in facts.nodes(model) if facts.is_op(node, "Div", "Mul"))


def _apply(node: ir.Node) -> bool:
    found = _normalized(node)
    if found is None:
        return False
    value, epsilon = found
    sizes = facts.dims(value)
    if not sizes or not isinstance(sizes[-1], int) or not sizes[-1] or facts.dtype(value) != ir.DataType.FLOAT:
        return False
    last, gamma = node, None
    scaled = facts.only_user(node.outputs[0], "Mul")
    if scaled is not None and (gamma := vector(scaled, node.outputs[0], sizes[-1])) is not None:
        last = scaled
    if gamma is None:
        gamma = rewrite.store(node, np.ones(sizes[-1], np.float32), "gamma")
    return rewrite.put(last, "RMSNormalization", [value, gamma], {"axis": -1, "epsilon": epsilon})


def _normalized(node: ir.Node) -> tuple[ir.Value, float] | None:
    """x and epsilon of what gives x / sqrt(mean(x ** 2) + epsilon)."""
    for value, other in match.pairs(node) if node.op_type == "Mul" else match.pairs(node)[:1]:
        root = facts.made_by(other if node.op_type == "Div" else match.inverted(other), "Sqrt")
        added = match.with_number(facts.made_by(root.inputs[0], "Add")) if root is not None else None
        if added is None or added[1] <= 0 or not facts.used_once(added[0]):
            continue
        mean = facts.made_by(added[0], "ReduceMean")
        if mean is not None and is_over_last_axis(mean) and match_square(mean.inputs[0]) is value:
            return value, added[1]
    return None
