"""Layouts on both sides of a linear layer are written as one, before it or after it, where that takes fewer nodes.

The layer is a MatMul by constant weights of two axes, with an Add of a vector or without, or a Gemm over rows. It works
on the last axis alone: what happens to the others may happen before it or after it. A Gemm becomes MatMul and Add.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from rayopt.graph.passes import facts, layout, rewrite
from rayopt.graph.passes.affine import own

opset, dims = 13, True
needs = ("Transpose",)


@dataclass(frozen=True)
class Layer:
    """A linear layer and the layouts around it; `last` is its last node."""

    node: ir.Node
    last: ir.Node
    bias: ir.Value | None
    before: list[ir.Node]
    after: list[ir.Node]

    @property
    def count(self) -> int:
        return len(self.before) + len(self.after) + 1 + (self.last is not self.node)


def apply(model: ir.Model, limits: object) -> int:
    return sum(_apply(node) for node in facts.nodes(model) if facts.is_op(node, "MatMul", "Gemm"))


def _apply(node: ir.Node) -> bool:
    layer = _layer(node)
    if layer is None:
        return False
    source = layer.before[0].inputs[0] if layer.before else node.inputs[0]
    sizes, width = facts.dims(source), (facts.dims(layer.last.outputs[0]) or (None,))[-1]
    if source is None or sizes is None or 0 in sizes or not isinstance(width, int) or len(sizes) < 2:
        return False
    atoms = layout.Atoms()
    start = atoms.of(sizes)
    rows = layout.carried(atoms, start, layer.before)
    if rows is None:
        return False
    new = [atoms.new((width, ()))] if width > 1 else []
    end = layout.carried(atoms, [*rows[:-1], new], layer.after)
    if end is None or not new:
        return False
    start, rows, made = atoms.whole(start), atoms.whole(rows), atoms.whole([new])[0]
    cost = 1 + (layer.bias is not None)
    if start[-1] == rows[-1]:
        plan = layout.plan(atoms, [*start[:-1], made], end)
        if plan.count + cost < layer.count and _after(layer, source, sizes, width, plan):
            return True
    if end[-1] == made:
        plan = layout.plan(atoms, start, [*end[:-1], rows[-1]])
        return plan.count + cost < layer.count and _before(layer, source, sizes, plan)
    return False


def _layer(node: ir.Node) -> Layer | None:
    if not facts.is_constant(node.inputs[1]) or facts.rank(node.inputs[1]) != 2:
        return None
    last, bias = node, None
    if node.op_type == "Gemm":
        bias = facts.given(node, 2)
        plain = all(facts.attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))
        if not plain or facts.attribute(node, "transA", 0) or (bias is not None and not _is_vector(bias)):
            return None
        if facts.attribute(node, "transB", 0) and own(node.inputs[1]) is None:
            return None
    else:
        added = facts.only_user(node.outputs[0], "Add")
        other = next((one for one in added.inputs if one is not node.outputs[0]), None) if added is not None else None
        if added is not None and _is_vector(other):
            last, bias = added, other
    first = facts.made_by(node.inputs[0], *layout.LAYOUTS)
    before = []
    if first is not None and facts.used_once(first.outputs[0]) and first.graph is node.graph:
        before = layout.chain(first)
    after = layout.following(last.outputs[0])
    return Layer(node, last, bias, before, after) if before and after else None


def _is_vector(value: ir.Value | None) -> bool:
    return facts.is_constant(value) and facts.rank(value) == 1


def _after(layer: Layer, source: ir.Value, sizes: tuple[facts.Dim, ...], width: int, plan: layout.Plan) -> bool:
    end, old, sizes = layer.after[-1], [*layer.before, *layer.after], (*sizes[:-1], width)
    if layout.told(sizes, plan, old) is None:
        return False
    value = layout.write(end, _linear(layer, end, source, sizes), sizes, plan, old)
    return value is not None and rewrite.skip(end, value)


def _before(layer: Layer, source: ir.Value, sizes: tuple[facts.Dim, ...], plan: layout.Plan) -> bool:
    end = layer.after[-1]
    value = layout.write(end, source, sizes, plan, [*layer.before, *layer.after])
    if value is None:
        return False
    return rewrite.skip(end, _linear(layer, end, value, facts.dims(end.outputs[0]) or ()))


def _linear(layer: Layer, before: ir.Node, value: ir.Value, sizes: tuple[facts.Dim, ...]) -> ir.Value:
    """MatMul, and Add where there is a bias, in front of a node."""
    weight = layer.node.inputs[1]
    if facts.attribute(layer.node, "transB", 0):
        turned = np.asarray(facts.constant(weight))
        weight = rewrite.store(before, np.ascontiguousarray(turned.T), "turned")
    result = rewrite.insert(before, "MatMul", [value, weight]).outputs[0]
    if layer.bias is not None:
        result = rewrite.insert(before, "Add", [result, layer.bias]).outputs[0]
    result.meta[facts.DIMS], result.meta[facts.DTYPE] = sizes, facts.dtype(layer.last.outputs[0])
    return result
