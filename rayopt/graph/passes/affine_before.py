"""BatchNormalization, or Mul, Div, Add, Sub by a number for each channel, goes into the weights of what comes after.

After may be Conv (a shift only where nothing is padded), Gemm or MatMul (scales only), with constant weights that it
alone uses. A scale and then a shift before a padded Conv become a shift alone. All of it is computed in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite
from rayopt.graph.passes.affine import Affine, affine, own, stored

opset, dims = 7, True
needs = ("Conv", "Gemm", "MatMul")
Array = np.ndarray[Any, Any]
LARGEST_SHIFT = 100.0  # a shift divided by a tiny scale would drown what it is added to


def apply(model: ir.Model, limits: object) -> int:
    count = 0
    for node in facts.nodes(model):
        while facts.is_op(node, "Conv", "Gemm", "MatMul") and _apply(node):
            count += 1
    return count


def _apply(node: ir.Node) -> bool:
    value, weight = node.inputs[0], own(node.inputs[1])
    before = value.producer() if value is not None else None
    if (
        value is None
        or before is None
        or weight is None
        or not facts.used_once(value)
        or before.graph is not node.graph
    ):
        return False
    rank = facts.rank(value)
    if rank is None or (node.op_type != "Conv" and (weight.ndim != 2 or facts.attribute(node, "transA", 0))):
        return False
    axis = 1 if node.op_type == "Conv" else rank - 1
    change = affine(before, rank, axis)
    channels = (facts.dims(value) or ())[axis]
    if (
        change is None
        or not isinstance(channels, int)
        or facts.rank(change.value) != rank
        or (facts.dims(change.value) or (None,) * rank)[axis] != channels
    ):
        return False
    if np.any(change.shift) and not (node.op_type == "Gemm" or (node.op_type == "Conv" and _unpadded(node))):
        return _swapped(node, weight, before, change, rank, axis, channels)
    if not _take(node, weight, np.broadcast_to(change.scale, (channels,)), np.broadcast_to(change.shift, (channels,))):
        return False
    node.replace_input_with(0, change.value)
    rewrite.remove(before)
    return True


def _unpadded(node: ir.Node) -> bool:
    automatic = facts.attribute(node, "auto_pad", "NOTSET")
    return automatic == "VALID" or (automatic == "NOTSET" and not any(facts.attribute(node, "pads", [])))


def _swapped(node: ir.Node, weight: Array, shift: ir.Node, change: Affine, rank: int, axis: int, channels: int) -> bool:
    """conv(x * s + b) is conv'(x + b / s): one node fewer."""
    scaling = change.value.producer()
    if (
        scaling is None
        or np.any(change.scale != 1)
        or not facts.used_once(change.value)
        or scaling.op_type == "BatchNormalization"
    ):
        return False
    inner = affine(scaling, rank, axis)
    if inner is None or np.any(inner.shift) or not np.all(inner.scale) or facts.rank(inner.value) != rank:
        return False
    moved = change.shift / inner.scale
    like = facts.constant(shift.inputs[0] if facts.is_constant(shift.inputs[0]) else shift.inputs[1])
    if np.abs(moved).max() > LARGEST_SHIFT or like is None:
        return False
    scale = np.broadcast_to(inner.scale, (channels,))
    shaped = moved.reshape(-1, *(1,) * (rank - axis - 1)) if moved.size > 1 else moved.reshape(())
    constant = stored(node, shaped, like, "shift")
    if constant is None or not _take(node, weight, scale, np.zeros(channels)):
        return False
    added = rewrite.insert(node, "Add", [inner.value, constant])
    node.replace_input_with(0, added.outputs[0])
    for key in (facts.DIMS, facts.DTYPE):
        added.outputs[0].meta[key] = shift.outputs[0].meta.get(key)
    rewrite.remove(shift)
    return True


def _take(node: ir.Node, weight: Array, scale: Array, shift: Array) -> bool:
    wide = weight.astype(np.float64)
    if node.op_type == "Conv":
        group = int(facts.attribute(node, "group", 1))
        split = wide.reshape(group, weight.shape[0] // group, *weight.shape[1:])
        ones = (1,) * (weight.ndim - 2)
        scaled = (split * scale.reshape(group, 1, -1, *ones)).reshape(weight.shape)
        added = (split * shift.reshape(group, 1, -1, *ones)).reshape(weight.shape[0], -1).sum(axis=1)
    else:
        across = (None, slice(None)) if facts.attribute(node, "transB", 0) else (slice(None), None)
        scaled = wide * scale[across]
        added = (wide * shift[across]).sum(axis=1 if facts.attribute(node, "transB", 0) else 0)
    new = {1: scaled}
    if np.any(shift):
        old = facts.constant(facts.given(node, 2))
        beta = facts.attribute(node, "beta", 1.0) if node.op_type == "Gemm" else 1.0
        if (old is None and facts.given(node, 2) is not None) or not beta:
            return False
        added = added * (facts.attribute(node, "alpha", 1.0) / beta if node.op_type == "Gemm" else 1.0)
        new[2] = added + (0 if old is None else old.astype(np.float64))
    values = {place: stored(node, array, weight, "folded") for place, array in new.items()}
    if any(value is None for value in values.values()):
        return False
    if len(node.inputs) <= max(values):
        node.resize_inputs(max(values) + 1)
    for place, value in values.items():
        node.replace_input_with(place, value)
    return True
