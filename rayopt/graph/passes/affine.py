"""Scale and shift by channel: how an operator's constants say it, and weights that take it in, computed in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Affine:
    """`value * scale + shift`, each of one number or of one for each channel."""

    value: ir.Value
    scale: Array
    shift: Array


def affine(node: ir.Node, rank: int, axis: int) -> Affine | None:
    """What a node does to each channel along `axis` of a tensor of `rank`, where that is all it does."""
    if facts.is_op(node, "BatchNormalization") and axis == 1:
        return _normalization(node)
    if not facts.is_op(node, "Mul", "Div", "Add", "Sub") or len(node.inputs) != 2:
        return None
    for place in (1, 0) if node.op_type in ("Mul", "Add") else (1,):
        value = node.inputs[1 - place]
        numbers = by_channel(node.inputs[place], rank, axis)
        if numbers is None or value is None or facts.is_constant(value):
            continue
        if node.op_type == "Div" and not np.all(numbers):
            return None
        scale = numbers if node.op_type == "Mul" else 1 / numbers if node.op_type == "Div" else np.ones(1)
        shift = numbers if node.op_type == "Add" else -numbers if node.op_type == "Sub" else np.zeros(1)
        return Affine(value, scale, shift)
    return None


def by_channel(value: ir.Value | None, rank: int, axis: int) -> Array | None:
    """A constant's numbers in float64 where it differs along `axis` alone, as it is broadcast to `rank`."""
    found = facts.constant(value, at_most=1 << 20)
    if found is None or found.dtype.kind != "f" or found.ndim > rank:
        return None
    shape = (1,) * (rank - found.ndim) + found.shape
    if any(size != 1 for place, size in enumerate(shape) if place != axis):
        return None
    numbers = found.astype(np.float64).reshape(-1)
    return numbers if np.isfinite(numbers).all() else None


def _normalization(node: ir.Node) -> Affine | None:
    if facts.attribute(node, "training_mode", 0) or len(node.outputs) != 1 or node.inputs[0] is None:
        return None
    parts = [facts.constant(value) for value in node.inputs[1:5]]  # of more axes where an old one is not `spatial`
    if any(part is None or part.dtype.kind != "f" or part.ndim != 1 for part in parts):
        return None
    gamma, beta, mean, variance = (np.asarray(part, np.float64) for part in parts)
    scale = gamma / np.sqrt(variance + facts.attribute(node, "epsilon", 1e-5))
    return Affine(node.inputs[0], scale, beta - mean * scale) if np.isfinite(scale).all() else None


def own(value: ir.Value | None) -> Array | None:
    """The array of a constant that one node alone uses: a changed copy of it then costs nothing."""
    if value is None or len(value.uses()) != 1 or value.is_graph_output():
        return None
    found = facts.constant(value)
    return found if found is not None and found.dtype.kind == "f" else None


def stored(near: ir.Node, array: Array, like: Array, hint: str) -> ir.Value | None:
    """A new constant of the type of another; None where a number does not fit that type."""
    with np.errstate(over="ignore"):
        cast = array.astype(like.dtype)
    return rewrite.store(near, cast, hint) if np.isfinite(cast).all() else None
