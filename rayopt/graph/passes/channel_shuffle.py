"""Reshape, Transpose, Reshape that only reorder the channels become one Gather (Zhang et al., "ShuffleNet", 2018)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite

opset, dims = 5, True
needs = ("Reshape",)


def apply(model: ir.Model, limits: object) -> int:
    return sum(_apply(node) for node in facts.nodes(model) if facts.is_op(node, "Reshape"))


def _apply(node: ir.Node) -> bool:
    moved = facts.made_by(node.inputs[0], "Transpose")
    apart = facts.made_by(moved.inputs[0], "Reshape") if moved is not None else None
    if moved is None or apart is None or not facts.used_once(moved.outputs[0]) or not facts.used_once(apart.outputs[0]):
        return False
    before, between, after = (facts.dims(one) for one in (apart.inputs[0], apart.outputs[0], node.outputs[0]))
    if before is None or between is None or before != after or len(before) < 3 or len(between) != len(before) + 1:
        return False
    groups, width = between[1], between[2]
    same = between[0] == before[0] and between[3:] == before[2:]
    swapped = facts.attribute(moved, "perm") == [0, 2, 1, *range(3, len(between))]
    if not same or not swapped or not isinstance(groups, int) or not isinstance(width, int):
        return False
    order = np.arange(groups * width, dtype=np.int32).reshape(groups, width).T.reshape(-1)
    places = rewrite.store(node, order, "shuffle")
    return rewrite.put(node, "Gather", [apart.inputs[0], places], {"axis": 1})
