"""Takes out Identity, and Dropout outside of training: linear, also through bodies and in front of outputs.

Stays where an output would lose its name: an output that is an input, a constant, or another output as well.
"""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite

opset, dims = 0, False
needs = ("Identity", "Dropout")


def apply(model: ir.Model, limits: object) -> int:
    version = facts.opset(model)
    return sum(_apply(node, version) for node in facts.nodes(model))


def _apply(node: ir.Node, version: int) -> bool:
    if not (facts.is_op(node, "Identity") or _idle_dropout(node, version)):
        return False
    value = node.inputs[0]
    if value is None or any(out.uses() or out.is_graph_output() for out in node.outputs[1:]):
        return False
    return rewrite.skip(node, value)


def _idle_dropout(node: ir.Node, version: int) -> bool:
    if not facts.is_op(node, "Dropout") or version < 7:  # before, an attribute said whether it was in training
        return False
    training = facts.given(node, 2)
    return training is None or (facts.constant(training, 1) is not None and not facts.constant(training, 1))
