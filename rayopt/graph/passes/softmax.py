"""exp(x - max) / sum becomes Softmax; Softmax or LogSoftmax of a Flatten that is undone after it goes in place."""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite

opset, dims = 13, True
needs = ("Exp", "Softmax", "LogSoftmax")


def apply(model: ir.Model, limits: object) -> int:
    count = sum(_ratio(node) for node in facts.nodes(model) if facts.is_op(node, "Div"))
    return count + sum(
        _restored(node) or _flat(node) for node in facts.nodes(model) if facts.is_op(node, "Softmax", "LogSoftmax")
    )


def _ratio(node: ir.Node) -> bool:
    powers, total = node.inputs[0], _unshaped(node.inputs[1])
    summed = facts.made_by(total, "ReduceSum")
    exp = facts.made_by(powers, "Exp")
    if exp is None or summed is None or summed.inputs[0] is not powers or powers is None or len(powers.uses()) != 2:
        return False
    shifted = facts.made_by(exp.inputs[0], "Sub")
    largest = facts.made_by(_unshaped(shifted.inputs[1]), "ReduceMax") if shifted is not None else None
    if shifted is None or largest is None or largest.inputs[0] is not shifted.inputs[0]:
        return False
    rank = facts.rank(shifted.inputs[0])
    axes = facts.axes_of(summed), facts.axes_of(largest)
    if rank is None or any(one is None or len(one) != 1 for one in axes):
        return False
    places = {one[0] % rank for one in axes if one}
    if len(places) != 1:
        return False
    axis = places.pop()
    sizes = facts.dims(powers) or ()
    kept = (*sizes[:axis], 1, *sizes[axis + 1 :])
    if any(facts.dims(value) != kept for value in (node.inputs[1], shifted.inputs[1])):
        return False
    return rewrite.put(node, "Softmax", [shifted.inputs[0]], {"axis": axis})


def _unshaped(value: ir.Value | None) -> ir.Value | None:
    """What a Reshape or Unsqueeze was made of: its result's dims say which axis it put back."""
    node = facts.made_by(value, "Reshape", "Unsqueeze")
    return node.inputs[0] if node is not None else value


def _restored(node: ir.Node) -> bool:
    """Over the rows of a tensor that is given back its own shape: what onnx's converter makes of the older Softmax."""
    flat = facts.made_by(node.inputs[0], "Flatten")
    back = facts.only_user(node.outputs[0], "Reshape")
    if flat is None or back is None or not facts.used_once(flat.outputs[0]) or len(back.inputs) < 2:
        return False
    shape, rank = facts.made_by(back.inputs[1], "Shape"), facts.rank(flat.inputs[0])
    if shape is None or shape.attributes or shape.inputs[0] is not flat.inputs[0] or not rank:
        return False
    if facts.attribute(flat, "axis", 1) % rank != rank - 1 or facts.attribute(node, "axis", -1) not in (-1, 1):
        return False
    return rewrite.put(back, node.op_type, [flat.inputs[0]], {"axis": -1})


def _flat(node: ir.Node) -> bool:
    flat = facts.made_by(node.inputs[0], "Flatten", "Reshape", "Squeeze")
    back = facts.only_user(node.outputs[0], "Reshape", "Unsqueeze")
    if flat is None or back is None or not facts.used_once(flat.outputs[0]):
        return False
    before, between, after = (facts.dims(one) for one in (flat.inputs[0], flat.outputs[0], back.outputs[0]))
    if (
        before is None
        or between is None
        or before != after
        or facts.attribute(node, "axis", -1) % len(between) != len(between) - 1
    ):
        return False
    wide = [axis for axis, size in enumerate(before) if size != 1]
    if not wide or before[: wide[-1]] != between[:-1] or before[wide[-1]] != between[-1]:
        return False
    return rewrite.put(back, node.op_type, [flat.inputs[0]], {"axis": wide[-1]})
