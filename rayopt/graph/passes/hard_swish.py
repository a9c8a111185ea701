"""x * clip(x + 3, 0, 6) / 6, or x * HardSigmoid(x), becomes HardSwish; clip(x + 3, 0, 6) / 6 becomes HardSigmoid.

Howard et al., "Searching for MobileNetV3", 2019. The clipped value may be used here alone.
"""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts, match, rewrite

opset, dims = 14, True
needs = ("Clip", "HardSigmoid")
TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16)  # those that the runtime has kernels for


def apply(model: ir.Model, limits: object) -> int:
    found = [node for node in facts.nodes(model) if facts.is_op(node, "Mul", "Div")]
    found = [node for node in found if facts.dtype(node.outputs[0]) in TYPES]
    return sum(_swish(node) for node in reversed(found)) + sum(_sigmoid(node) for node in found)


def _swish(node: ir.Node) -> bool:
    if not facts.alive(node) or (node.op_type == "Div" and match.with_number(node) is None):
        return False
    factors, number = match.product(node)
    if len(factors) != 2:
        return False
    for value, gate in (factors, factors[::-1]):
        inner = gate.producer()
        if inner is None or not facts.used_once(gate):
            continue
        if match.close(number, 1 / 6) and clipped(inner) is value:
            return rewrite.put(node, "HardSwish", [value])
        if match.close(number, 1.0) and _is_sixth(inner) and inner.inputs[0] is value:
            return rewrite.put(node, "HardSwish", [value])
    return False


def clipped(node: ir.Node) -> ir.Value | None:
    """The x of clip(x + 3, 0, 6)."""
    if match.clip_range(node) != (0.0, 6.0):
        return None
    added = facts.made_by(node.inputs[0], "Add")
    found = match.with_number(added)
    if found is None or not match.close(found[1], 3.0) or not facts.used_once(node.inputs[0]):  # type: ignore[arg-type]
        return None
    return found[0]


def _is_sixth(node: ir.Node) -> bool:
    if not facts.is_op(node, "HardSigmoid"):
        return False
    slope, offset = facts.attribute(node, "alpha", 0.2), facts.attribute(node, "beta", 0.5)
    return match.close(slope, 1 / 6) and match.close(offset, 0.5)


def _sigmoid(node: ir.Node) -> bool:
    found = match.with_number(node) if facts.alive(node) else None
    if found is None or not match.close(found[1], 6.0 if node.op_type == "Div" else 1 / 6):
        return False
    inner = found[0].producer()
    if inner is None or not facts.used_once(found[0]):
        return False
    value = clipped(inner)
    return value is not None and rewrite.put(node, "HardSigmoid", [value], {"alpha": 1 / 6, "beta": 0.5})
