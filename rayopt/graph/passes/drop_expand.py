"""Expand in front of operators that broadcast by themselves goes, where the other operand has the expanded sizes."""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite, symbolic

opset, dims = 8, True
needs = ("Expand",)
BROADCASTING = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Equal", "Greater", "Less", "And", "Or", "Where")


def apply(model: ir.Model, limits: object) -> int:
    return sum(_apply(node) for node in facts.nodes(model) if facts.is_op(node, "Expand"))


def _apply(node: ir.Node) -> bool:
    value, result = node.inputs[0], node.outputs[0]
    before, after = facts.dims(value), _expanded(node)
    if value is None or before is None or after is None or result.is_graph_output() or not result.uses():
        return False
    if not all(_needless(use.node, result, before, after) for use in result.uses()):
        return False
    return rewrite.skip(node, value)


def _expanded(node: ir.Node) -> tuple[facts.Dim, ...] | None:
    """The sizes that an Expand makes, by the arithmetic of its shape where the inference knows less."""
    before, told = facts.dims(node.inputs[0]), symbolic.elements(node.inputs[1])
    if before is None or told is None or None in told:
        return None
    rank = max(len(before), len(told))
    left = (1,) * (rank - len(before)) + before
    right = (1,) * (rank - len(told)) + tuple(symbolic.dim(one) for one in told if one is not None)
    return tuple(a if b == 1 else b for a, b in zip(left, right, strict=True))


def _needless(user: ir.Node, result: ir.Value, before: tuple[facts.Dim, ...], after: tuple[facts.Dim, ...]) -> bool:
    if not facts.is_op(user, *BROADCASTING):
        return False
    others = [facts.dims(value) for value in user.inputs if value is not result]
    if not others or any(one is None for one in others):
        return False
    if max(len(before), *(len(one or ()) for one in others)) < len(after):
        return False
    for back in range(1, len(after) + 1):
        old = before[-back] if back <= len(before) else 1
        if old == after[-back]:
            continue
        if not any(back <= len(one or ()) and (one or ())[-back] == after[-back] for one in others):
            return False
    return True
