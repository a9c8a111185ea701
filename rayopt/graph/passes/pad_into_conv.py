"""A Pad with zeros in front of Conv, used there alone, becomes the Conv's own padding."""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite

opset, dims = 2, True
needs = ("Pad",)


def apply(model: ir.Model, limits: object) -> int:
    return sum(_apply(node) for node in facts.nodes(model) if facts.is_op(node, "Conv"))


def _apply(node: ir.Node) -> bool:
    pad = facts.made_by(node.inputs[0], "Pad")
    if pad is None or not facts.used_once(pad.outputs[0]) or facts.attribute(pad, "mode", "constant") != "constant":
        return False
    if facts.given(pad, 3) is not None or facts.attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return False
    fill = facts.given(pad, 2)
    if facts.attribute(pad, "value", 0.0) != 0 or (fill is not None and facts.scalar(fill) != 0):
        return False
    pads = facts.attribute(pad, "pads") or facts.ints(facts.given(pad, 1))
    rank = len(pads) // 2 if pads else 0
    if not pads or min(pads) < 0 or any(pads[axis] or pads[axis + rank] for axis in (0, 1)):
        return False
    own = facts.attribute(node, "pads", [0] * (2 * rank - 4))
    added = [*pads[2:rank], *pads[rank + 2 :]]
    node.attributes["pads"] = ir.AttrInt64s("pads", [a + b for a, b in zip(own, added, strict=True)])
    node.replace_input_with(0, pad.inputs[0])
    rewrite.remove(pad)
    return True
