"""Relu, Clip, and Min or Max with a number, one after the other, become one Clip; what changes nothing goes.

All of them are a lower and then an upper bound. A NaN goes through them all as it goes through one.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from rayopt.graph.passes import facts, match, rewrite

opset, dims = 12, True
needs = ("Relu", "Clip", "Min", "Max")
BOUNDS = ("Relu", "Clip", "Min", "Max")


def apply(model: ir.Model, limits: object) -> int:
    return sum(_apply(node) for node in facts.nodes(model) if facts.is_op(node, *BOUNDS))


def _apply(node: ir.Node) -> bool:
    outer = bounds(node)
    if outer is None:
        return False
    value, low, high = outer
    inner = value.producer()
    found = bounds(inner) if facts.is_op(inner, *BOUNDS) and inner is not None else None
    kind = facts.dtype(node.outputs[0])
    if found is None or not facts.used_once(value) or kind not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
        return False
    source, inner_low, inner_high = found
    new_low = min(max(inner_low, low), high)
    new_high = min(max(inner_high, low), high)
    if new_low > new_high or new_low == math.inf or new_high == -math.inf:  # an end that is infinite is left out
        return False
    if (new_low, new_high) == (0.0, math.inf):
        return rewrite.put(node, "Relu", [source])
    ends = [
        None if math.isinf(one) else rewrite.store(node, np.array(one, kind.numpy()), "bound")
        for one in (new_low, new_high)
    ]
    return rewrite.put(node, "Clip", [source, *ends] if ends[1] is not None else [source, ends[0]])


def bounds(node: ir.Node) -> tuple[ir.Value, float, float] | None:
    """What a node bounds, from below and from above."""
    first = node.inputs[0]
    if first is None:
        return None
    if node.op_type == "Relu":
        return first, 0.0, math.inf
    if node.op_type == "Clip":
        found = match.clip_range(node)
        if found is None:
            return None
        low, high = -math.inf if found[0] is None else found[0], math.inf if found[1] is None else found[1]
        return (first, low, high) if low <= high else None
    limited = match.with_number(node)
    if limited is None or math.isnan(limited[1]):
        return None
    return (limited[0], limited[1], math.inf) if node.op_type == "Max" else (limited[0], -math.inf, limited[1])
