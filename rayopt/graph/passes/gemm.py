"""MatMul and Add of two axes become Gemm; a Transpose of a Gemm's or MatMul's two-axis operand becomes its attribute.

A bias must be a vector of the result's last axis or a row of it. A MatMul of more axes stays: Gemm takes two.
"""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite

opset, dims = 11, True
needs = ("MatMul", "Gemm")
FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE)


def apply(model: ir.Model, limits: object) -> int:
    count = sum(_biased(node) for node in facts.nodes(model) if facts.is_op(node, "MatMul"))
    return count + sum(_transposed(node) for node in facts.nodes(model) if facts.is_op(node, "Gemm"))


def _biased(node: ir.Node) -> bool:
    result = node.outputs[0]
    added = facts.only_user(result, "Add")
    left, right = facts.rank(node.inputs[0]), facts.dims(node.inputs[1])
    if added is None or left != 2 or right is None or len(right) != 2 or facts.dtype(result) not in FLOATS:
        return False
    bias = added.inputs[1] if added.inputs[0] is result else added.inputs[0]
    if bias is result or facts.dims(bias) not in ((right[1],), (1, right[1])) or not isinstance(right[1], int):
        return False
    return rewrite.put(added, "Gemm", [node.inputs[0], node.inputs[1], bias])


def _transposed(node: ir.Node) -> bool:
    count = False
    for place, name in ((0, "transA"), (1, "transB")):
        inner = facts.made_by(node.inputs[place], "Transpose")
        if inner is not None and facts.attribute(inner, "perm", [1, 0]) == [1, 0] and inner.inputs[0] is not None:
            node.attributes[name] = ir.AttrInt64(name, 1 - facts.attribute(node, name, 0))
            node.replace_input_with(place, inner.inputs[0])
            rewrite.remove(inner)
            count = True
    return count
