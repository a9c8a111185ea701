"""x * tanh(softplus(x)) becomes Mish, which the runtime writes out again: as fast, and fewer nodes.

Misra, "Mish: A Self Regularized Non-Monotonic Activation Function", 2019. Inner results may be used here alone.
"""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts, match, rewrite

opset, dims = 18, False
needs = ("Softplus",)


def apply(model: ir.Model, limits: object) -> int:
    return sum(_apply(node) for node in facts.nodes(model) if facts.is_op(node, "Mul"))


def _apply(node: ir.Node) -> bool:
    for value, gate in match.pairs(node):
        outer = facts.made_by(gate, "Tanh")
        inner = facts.made_by(outer.inputs[0], "Softplus") if outer is not None else None
        if outer is None or inner is None or inner.inputs[0] is not value:
            continue
        if facts.used_once(gate) and facts.used_once(inner.outputs[0]):
            return rewrite.put(node, "Mish", [value])
    return False
