"""Initial states of LSTM, GRU and RNN that are all zeros are left out: that is what the operators start from."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rayopt.graph.passes import facts

opset, dims = 7, False
needs = ("LSTM", "GRU", "RNN")
PLACES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
CARRIED = ("Unsqueeze", "Squeeze", "Reshape", "Transpose", "Identity", "Expand", "Slice", "Gather", "Tile", "Split")


def apply(model: ir.Model, limits: object) -> int:
    return sum(_apply(node) for node in facts.nodes(model) if facts.is_op(node, *PLACES))


def _apply(node: ir.Node) -> int:
    count = 0
    for place in PLACES[node.op_type]:
        value = facts.given(node, place)
        if value is not None and zeros(value):
            node.replace_input_with(place, None)
            count += 1
    return count


def zeros(value: ir.Value | None) -> bool:
    """Whether a value is all zeros, whatever its sizes."""
    waiting, seen = [value], set()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        sources = _sources(one)
        if sources is None:
            return False
        waiting.extend(sources)
    return True


def _sources(value: ir.Value | None) -> list[ir.Value | None] | None:
    """The values that must be all zeros for this one to be so; None where it is not known to be."""
    found = facts.constant(value, at_most=1 << 20)
    if found is not None:
        return [] if found.dtype.kind == "f" and not np.any(found) else None
    node = value.producer() if value is not None else None
    if node is None or node.domain:
        return None
    if node.op_type == "ConstantOfShape":
        fill = facts.attribute(node, "value")
        return [] if fill is None or not np.any(fill.numpy()) else None
    if node.op_type == "Concat":
        return list(node.inputs)
    return [node.inputs[0]] if node.op_type in CARRIED else None
