"""Takes out an operator after one that has already done the same: Relu, Abs, Floor, Ceil or Round twice.

Relu also after what is never below zero. Nothing is asked of sizes: they are inferred of what is left.
"""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite

opset, dims = 0, False
AFTER = {
    "Relu": ("Relu", "Sigmoid", "Softmax"), "Abs": ("Abs",), "Floor": ("Floor",), "Ceil": ("Ceil",),
    "Round": ("Round",),
}  # fmt: skip
needs = tuple(AFTER)


def apply(model: ir.Model, limits: object) -> int:
    return sum(_apply(node) for node in facts.nodes(model) if facts.is_op(node, *needs))


def _apply(node: ir.Node) -> bool:
    value = node.inputs[0]
    return facts.made_by(value, *AFTER[node.op_type]) is not None and value is not None and rewrite.skip(node, value)
