"""0.5 * x * (1 + erf(x / sqrt 2)) and its tanh form become Gelu (Hendrycks and Gimpel, 2016)."""

from __future__ import annotations

import math

import onnx_ir as ir

from rayopt.graph.passes import facts, match, rewrite

opset, dims = 20, True
needs = ("Erf", "Tanh")


def apply(model: ir.Model, limits: object) -> int:
    return sum(_apply(node) for node in reversed(list(facts.nodes(model))) if facts.is_op(node, "Mul", "Div"))


def _apply(node: ir.Node) -> bool:
    if not facts.alive(node) or (node.op_type == "Div" and match.with_number(node) is None):
        return False
    factors, number = match.product(node)
    if len(factors) != 2 or not match.close(number, 0.5):
        return False
    for value, gate in (factors, factors[::-1]):
        inner = match.with_number(facts.made_by(gate, "Add"))
        if (
            inner is None
            or not match.close(inner[1], 1.0)
            or not facts.used_once(gate)
            or not facts.used_once(inner[0])
        ):
            continue
        if _erf(inner[0], value):
            return rewrite.put(node, "Gelu", [value])
        if _tanh(inner[0], value):
            return rewrite.put(node, "Gelu", [value], {"approximate": "tanh"})
    return False


def _erf(gate: ir.Value, value: ir.Value) -> bool:
    """Whether gate is erf(value / sqrt 2)."""
    node = facts.made_by(gate, "Erf")
    scaled = node.inputs[0].producer() if node is not None and node.inputs[0] is not None else None
    found = match.with_number(scaled) if facts.is_op(scaled, "Mul", "Div") else None
    if found is None or scaled is None or found[0] is not value:
        return False
    return match.close(found[1], math.sqrt(2) if scaled.op_type == "Div" else math.sqrt(0.5))


def _tanh(gate: ir.Value, value: ir.Value) -> bool:
    """Whether gate is tanh(sqrt(2 / pi) * (value + 0.044715 * value ** 3))."""
    node = facts.made_by(gate, "Tanh")
    scaled = match.with_number(facts.made_by(node.inputs[0], "Mul")) if node is not None else None
    if scaled is None or not match.close(scaled[1], math.sqrt(2 / math.pi)):
        return False
    for first, second in match.pairs(facts.made_by(scaled[0], "Add")):
        if first is value and _cubed(second, value):
            return True
    return False


def _cubed(term: ir.Value, value: ir.Value) -> bool:
    """Whether term is 0.044715 * value ** 3."""
    node = facts.made_by(term, "Mul")
    if node is None:
        return False
    factors, number = match.product(node)
    if not match.close(number, 0.044715):
        return False
    power = match.with_number(facts.made_by(factors[0], "Pow")) if len(factors) == 1 else None
    return (power is not None and power[0] is value and power[1] == 3.0) or (
        len(factors) == 3 and all(one is value for one in factors)
    )
