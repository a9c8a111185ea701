"""BatchNormalization, or Mul, Div, Add, Sub by a number for each channel, goes into the weights of what comes before.

Before may be Conv, ConvTranspose, Gemm, MatMul (scales only) or another BatchNormalization, whose result is used here
alone and whose weights are constants that it alone uses. The new weights are computed in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite
from rayopt.graph.passes.affine import Affine, affine, own, stored

opset, dims = 7, True
needs = ("BatchNormalization", "Mul", "Div", "Add", "Sub")
Array = np.ndarray[Any, Any]
BEFORE = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization")


def apply(model: ir.Model, limits: object) -> int:
    count = 0
    for node in facts.nodes(model):
        while facts.is_op(node, *BEFORE) and _apply(node):
            count += 1
    return count


def _apply(node: ir.Node) -> bool:
    result = node.outputs[0]
    if len(node.outputs) != 1:
        return False
    user = facts.only_user(result, "BatchNormalization", "Mul", "Div", "Add", "Sub")
    rank = _rank(node)
    if user is None or rank is None:
        return False
    change = affine(user, rank, rank - 1 if node.op_type in ("Gemm", "MatMul") else 1)
    if change is None or change.value is not result or not _same_size(node, user, rank):
        return False
    if not _TAKE[node.op_type](node, change):
        return False
    return rewrite.skip(user, result)


def _rank(node: ir.Node) -> int | None:
    if node.op_type == "Gemm":
        return 2
    if node.op_type == "MatMul":
        return facts.rank(node.outputs[0])
    return facts.rank(node.inputs[1]) if node.op_type != "BatchNormalization" else facts.rank(node.inputs[0])


def _same_size(node: ir.Node, user: ir.Node, rank: int) -> bool:
    """Whether the constant does not widen a single channel to several."""
    channels = _channels(node)
    widths = [facts.dims(value) for value in user.inputs if value is not node.outputs[0]]
    if user.op_type == "BatchNormalization":
        return True
    axis = rank - 1 if node.op_type in ("Gemm", "MatMul") else 1
    for sizes in widths:
        place = len(sizes or ()) - (rank - axis)
        if place >= 0 and (sizes or ())[place] not in (1, channels):
            return False
    return channels is not None


def _channels(node: ir.Node) -> facts.Dim | None:
    sizes = facts.static(node.inputs[1])
    if sizes is None:
        return None
    if node.op_type == "ConvTranspose":
        return sizes[1] * int(facts.attribute(node, "group", 1))
    if node.op_type == "Gemm":
        return sizes[0 if facts.attribute(node, "transB", 0) else 1]
    return sizes[1] if node.op_type == "MatMul" and len(sizes) == 2 else sizes[0]


def _conv(node: ir.Node, change: Affine) -> bool:
    weight, channels = own(node.inputs[1]), _channels(node)
    if weight is None or not isinstance(channels, int):
        return False
    scale = np.broadcast_to(change.scale, (channels,))
    if node.op_type == "Conv":
        scaled = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    else:
        group = int(facts.attribute(node, "group", 1))
        split = weight.astype(np.float64).reshape(group, weight.shape[0] // group, *weight.shape[1:])
        scaled = (split * scale.reshape(group, 1, -1, *(1,) * (weight.ndim - 2))).reshape(weight.shape)
    bias = _bias(facts.given(node, 2), channels)
    return bias is not None and _set(node, weight, {1: scaled, 2: bias * scale + change.shift})


def _gemm(node: ir.Node, change: Affine) -> bool:
    weight, channels, beta = own(node.inputs[1]), _channels(node), facts.attribute(node, "beta", 1.0)
    bias = facts.constant(facts.given(node, 2))
    if weight is None or not isinstance(channels, int) or not beta:
        return False
    if bias is None and facts.given(node, 2) is not None:
        return False
    old = np.zeros(1) if bias is None else bias.astype(np.float64)
    scale = np.broadcast_to(change.scale, (channels,))
    scaled = weight * (scale[:, None] if facts.attribute(node, "transB", 0) else scale[None])
    shifted = old * scale + np.broadcast_to(change.shift, (channels,)) / beta
    return _set(node, weight, {1: scaled, 2: shifted})


def _matmul(node: ir.Node, change: Affine) -> bool:
    weight = own(node.inputs[1])
    if weight is None or weight.ndim != 2 or np.any(change.shift):
        return False
    return _set(node, weight, {1: weight * change.scale})


def _normalization(node: ir.Node, change: Affine) -> bool:
    gamma, beta = own(node.inputs[1]), own(node.inputs[2])
    if gamma is None or beta is None or gamma.ndim != 1 or facts.attribute(node, "training_mode", 0):
        return False
    shifted = beta.astype(np.float64) * change.scale + change.shift
    return _set(node, gamma, {1: gamma * change.scale, 2: np.broadcast_to(shifted, beta.shape)})


def _bias(value: ir.Value | None, channels: int) -> Array | None:
    if value is None:
        return np.zeros(channels)
    found = facts.constant(value)
    return None if found is None else found.astype(np.float64)


def _set(node: ir.Node, like: Array, arrays: dict[int, Array]) -> bool:
    values = {place: stored(node, array, like, "folded") for place, array in arrays.items()}
    if any(value is None for value in values.values()):
        return False
    if len(node.inputs) <= max(values):
        node.resize_inputs(max(values) + 1)
    for place, value in values.items():
        node.replace_input_with(place, value)
    return True


_TAKE = {
    "Conv": _conv, "ConvTranspose": _conv, "Gemm": _gemm, "MatMul": _matmul, "BatchNormalization": _normalization,
}  # fmt: skip
