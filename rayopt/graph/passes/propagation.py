"""Carries sizes as products of the inputs' sizes through operators after which onnx's inference only says "unknown".

A Reshape that leaves over 4 * batch, and a Reshape back, then give the batch again.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from rayopt.graph.passes import facts, symbolic

Dims = tuple[facts.Dim, ...]
SAME = {
    "Relu", "Sigmoid", "Softmax", "Gelu", "Identity", "Cast", "Neg", "Exp", "Log", "Sqrt", "Tanh", "Erf", "Clip",
    "LayerNormalization", "HardSwish", "HardSigmoid", "LeakyRelu", "Dropout", "BatchNormalization", "Abs", "Reciprocal",
    "Softplus", "Elu", "Mish", "InstanceNormalization", "RMSNormalization", "Not",
}  # fmt: skip
BROADCAST = {"Add", "Sub", "Mul", "Div", "Pow", "Equal", "Greater", "Less", "And", "Or"}


def propagate(model: ir.Model) -> None:
    """Notes better dims where a rule gives all of them, in the order of the nodes."""
    for graph in facts.graphs(model):
        for node in graph:
            for value in node.outputs[: None if node.op_type == "Split" else 1]:
                _note(node, value)


def _note(node: ir.Node, value: ir.Value) -> None:
    known = facts.dims(value)
    if node.domain or (known is not None and not any(isinstance(one, str) for one in known)):
        return
    if not node.inputs or node.inputs[0] is None:
        return
    rule = _rule(node.op_type)
    found = _split(node, value) if node.op_type == "Split" else rule(node) if rule is not None else None
    if found is not None and (known is None or len(known) == len(found)):
        merged = (old if isinstance(old, int) else new for old, new in zip(known or found, found, strict=True))
        value.meta[facts.DIMS] = tuple(merged)


def _rule(operator: str) -> Callable[[ir.Node], Dims | None] | None:
    if operator in SAME:
        return lambda node: facts.dims(node.inputs[0])
    return _broadcast if operator in BROADCAST else RULES.get(operator)


def _broadcast(node: ir.Node) -> Dims | None:
    left, right = facts.dims(node.inputs[0]), facts.dims(node.inputs[1])
    return None if left is None or right is None else broadcast(left, right)


def broadcast(left: Dims, right: Dims) -> Dims | None:
    rank = max(len(left), len(right))
    left, right = (1,) * (rank - len(left)) + left, (1,) * (rank - len(right)) + right
    if any(a != b and 1 not in (a, b) for a, b in zip(left, right, strict=True)):
        return None
    return tuple(b if a == 1 else a for a, b in zip(left, right, strict=True))


def _transpose(node: ir.Node) -> Dims | None:
    sizes = facts.dims(node.inputs[0])
    perm = facts.attribute(node, "perm")
    if sizes is None or (perm is not None and len(perm) != len(sizes)):
        return None
    return tuple(sizes[axis] for axis in perm) if perm is not None else sizes[::-1]


def _reshape(node: ir.Node) -> Dims | None:
    told = symbolic.elements(node.inputs[1]) if len(node.inputs) > 1 else None
    if told is None or (facts.attribute(node, "allowzero", 0) and (0, ()) in told):
        return None
    found = symbolic.reshaped(facts.dims(node.inputs[0]), told)
    return None if found is None else tuple(found)


def _matmul(node: ir.Node) -> Dims | None:
    left, right = facts.dims(node.inputs[0]), facts.dims(node.inputs[1])
    if left is None or right is None or len(left) < 2 or len(right) < 2:
        return None
    batch = broadcast(left[:-2], right[:-2])
    return None if batch is None else (*batch, left[-2], right[-1])


def _gemm(node: ir.Node) -> Dims | None:
    left, right = facts.dims(node.inputs[0]), facts.dims(node.inputs[1])
    if left is None or right is None or len(left) != 2 or len(right) != 2:
        return None
    return left[facts.attribute(node, "transA", 0)], right[1 - facts.attribute(node, "transB", 0)]


def _squeeze(node: ir.Node) -> Dims | None:
    sizes, axes = facts.dims(node.inputs[0]), facts.axes_of(node)
    if not sizes or not axes:
        return None
    gone = {axis % len(sizes) for axis in axes}
    return tuple(one for place, one in enumerate(sizes) if place not in gone)


def _unsqueeze(node: ir.Node) -> Dims | None:
    sizes, axes = facts.dims(node.inputs[0]), facts.axes_of(node)
    if sizes is None or not axes:
        return None
    rank, rest = len(sizes) + len(axes), iter(sizes)
    new = {axis % rank for axis in axes}
    if len(new) != len(axes):
        return None
    return tuple(1 if place in new else next(rest) for place in range(rank))


def _concat(node: ir.Node) -> Dims | None:
    parts = [facts.dims(value) for value in node.inputs]
    first = parts[0]
    if not first or any(part is None or len(part) != len(first) for part in parts):
        return None
    axis = facts.attribute(node, "axis") % len(first)
    widths = [(part or ())[axis] for part in parts]
    if not all(isinstance(one, int) for one in widths):
        return None
    return (*first[:axis], sum(int(one) for one in widths), *first[axis + 1 :])


def _split(node: ir.Node, value: ir.Value) -> Dims | None:
    """The sizes of a part, where the inference says how long it is."""
    sizes, part = facts.dims(node.inputs[0]), facts.dims(value)
    if not sizes or part is None or len(part) != len(sizes):
        return None
    axis = facts.attribute(node, "axis", 0) % len(sizes)
    return (*sizes[:axis], part[axis], *sizes[axis + 1 :]) if isinstance(part[axis], int) else None


def _attention(node: ir.Node) -> Dims | None:
    q, v = facts.dims(node.inputs[0]), facts.dims(node.inputs[2])
    if q is None or v is None or len(q) != len(v):
        return None
    heads = [facts.attribute(node, name) for name in ("q_num_heads", "kv_num_heads")]
    return (*q[:-1], v[-1]) if heads[0] == heads[1] else None


RULES: dict[str, Callable[[ir.Node], Dims | None]] = {
    "Transpose": _transpose, "Reshape": _reshape, "MatMul": _matmul, "Gemm": _gemm, "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze, "Concat": _concat, "Attention": _attention,
}  # fmt: skip
