"""Takes out operators whose constants or attributes say that they do nothing; nothing needs to be known of shapes.

Transpose in order, Concat of one, Pad by nothing, Cast of a Cast's own type, Slice of all, Max with -inf, whole numbers
times 0, x * 1, x / 1, x + 0, x - 0, x ** 1. Adding +0.0 to -0.0 gives +0.0: the one bit that is not kept, as in
ONNX Runtime.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite

opset, dims = 0, True
NEUTRAL = {"Mul": 1, "Div": 1, "Add": 0, "Sub": 0, "Pow": 1, "Max": -math.inf, "Min": math.inf}
needs = ("Transpose", "Concat", "Sum", "Mean", "Pad", "Cast", "Slice", "ReduceSum", "ReduceMean", *NEUTRAL)
BOTH_SIDES = ("Mul", "Add", "Max", "Min")
END = (1 << 31) - 1  # exporters write one of several "to the end"
BILLION = 1_000_000_000


def apply(model: ir.Model, limits: object) -> int:
    return sum(_apply(node) for node in facts.nodes(model))


def _apply(node: ir.Node) -> bool:
    if not facts.alive(node) or node.domain or not node.inputs or len(node.outputs) != 1:
        return False
    value = _same(node)
    return value is not None and rewrite.skip(node, value)


def _same(node: ir.Node) -> ir.Value | None:
    """The input that the node gives back as it is."""
    first = node.inputs[0]
    operator = node.op_type
    if operator in NEUTRAL and len(node.inputs) == 2:
        return _neutral(node)
    idle = (
        (operator == "Transpose" and (perm := facts.attribute(node, "perm")) is not None and perm == sorted(perm))
        or (operator in ("Concat", "Sum", "Mean", "Max", "Min") and len(node.inputs) == 1)
        or (operator == "Pad" and _pads(node))
        or (operator == "Cast" and facts.dtype(first) is not None and facts.dtype(first) == facts.attribute(node, "to"))
        or (operator == "Slice" and _whole(node))
        or (operator in ("ReduceSum", "ReduceMean") and _no_axes(node))
    )
    return first if idle else None


def _neutral(node: ir.Node) -> ir.Value | None:
    for place in (1, 0) if node.op_type in BOTH_SIDES else (1,):
        constant, other = node.inputs[place], node.inputs[1 - place]
        if facts.scalar(constant) != NEUTRAL[node.op_type] or other is None:
            continue
        ranks = facts.rank(constant), facts.rank(other)
        if ranks[0] == 0 or (None not in ranks and ranks[0] <= ranks[1]):  # type: ignore[operator]
            return other
    return None


def _pads(node: ir.Node) -> bool:
    pads: list[int] | None = facts.attribute(node, "pads") or facts.ints(facts.given(node, 1))
    return pads is not None and not any(pads)


def _no_axes(node: ir.Node) -> bool:
    return bool(facts.attribute(node, "noop_with_empty_axes", 0)) and facts.axes_of(node, []) == []


def _whole(node: ir.Node) -> bool:
    """Whether a Slice keeps everything: from the start to beyond the end, each one."""
    if "starts" in node.attributes:
        starts, ends, steps = facts.attribute(node, "starts"), facts.attribute(node, "ends"), None
        axes = facts.attribute(node, "axes", list(range(len(starts))))
    else:
        starts, ends, axes, steps = (facts.ints(facts.given(node, place)) for place in (1, 2, 3, 4))
        if (facts.given(node, 3) is not None and axes is None) or (facts.given(node, 4) is not None and steps is None):
            return False
    if starts is None or ends is None:
        return False
    axes = list(range(len(starts))) if axes is None else axes
    sizes = facts.dims(node.inputs[0])
    for start, end, axis, step in zip(starts, ends, axes, steps or [1] * len(starts), strict=True):
        size = sizes[axis] if sizes is not None and -len(sizes) <= axis < len(sizes) else None
        to_end = end >= END or (isinstance(size, int) and end >= size) or (end >= BILLION and _row(sizes) >= 1000)
        from_start = start == 0 or (isinstance(size, int) and start <= -size)
        if step != 1 or not from_start or not to_end:
            return False
    return True


def _row(sizes: tuple[facts.Dim, ...] | None) -> int:
    """Numbers in one step along the unknown axis: with a thousand, a billion of them do not fit any memory."""
    known = [one for one in sizes or () if isinstance(one, int)]
    return math.prod(known) if len(known) == len(sizes or ()) - 1 else 0
