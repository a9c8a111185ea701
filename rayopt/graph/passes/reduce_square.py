"""Sums of squares become ReduceSumSquare, and their roots ReduceL2; so do those of two halves of one tensor.

sqrt(a ** 2 + b ** 2) of the halves a and b of an axis (real and imaginary part of a spectrum) is the norm over a new
axis of size 2. Inner results may be used here alone.
"""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite, symbolic
from rayopt.graph.passes.layer_norm import match_square

opset, dims = 18, True
needs = ("ReduceSum", "Sqrt")


def apply(model: ir.Model, limits: object) -> int:
    count = 0
    for node in facts.nodes(model):
        if facts.is_op(node, "ReduceSum"):
            count += _sum(node)
        elif facts.is_op(node, "Sqrt"):
            count += _root(node) or _halves(node)
    return count


def _sum(node: ir.Node) -> bool:
    square = node.inputs[0]
    value = match_square(square)
    if value is None or square is None or not facts.used_once(square):
        return False
    return rewrite.put(node, "ReduceSumSquare", [value, *_axes(node)], _attributes(node))


def _root(node: ir.Node) -> bool:
    inner = facts.made_by(node.inputs[0], "ReduceSumSquare")
    if inner is None or not facts.used_once(inner.outputs[0]):
        return False
    return rewrite.put(node, "ReduceL2", [inner.inputs[0], *_axes(inner)], _attributes(inner))


def _axes(node: ir.Node) -> list[ir.Value | None]:
    """The axes in the form of opset 18, or none where they are an attribute before it."""
    if facts.given(node, 1) is None:
        return []
    return [node.inputs[1]]


def _attributes(node: ir.Node) -> dict[str, object]:
    return {name: one.value for name, one in node.attributes.items() if name in ("keepdims", "noop_with_empty_axes")}


def _halves(node: ir.Node) -> bool:
    added = facts.made_by(node.inputs[0], "Add")
    if added is None or not facts.used_once(added.outputs[0]):
        return False
    squares = list(added.inputs)
    parts = [match_square(value) for value in squares]
    if any(value is None or not facts.used_once(value) for value in squares):
        return False
    cuts = [part.producer() for part in parts if part is not None]
    if len(cuts) != 2 or cuts[0] is None or cuts[1] is None or cuts[0].inputs[0] is not cuts[1].inputs[0]:
        return False
    source = cuts[0].inputs[0]
    ranges = sorted(found for part in parts if (found := _range(part)) is not None)
    sizes = facts.dims(source)
    if len(ranges) != 2 or sizes is None or any(len(part.uses()) != 1 for part in parts if part is not None):
        return False
    (axis, start, middle), (other, again, end) = ranges
    if axis != other or start != 0 or middle != again or end != 2 * middle or sizes[axis] != end:
        return False
    wanted = (*sizes[:axis], 2, middle, *sizes[axis + 1 :])
    numbers = symbolic.target(sizes, wanted, set())
    if numbers is None:
        return False
    split = rewrite.insert(node, "Reshape", [source, rewrite.store_ints(node, numbers)])
    axes = rewrite.store_ints(node, [axis], "axes")
    return rewrite.put(node, "ReduceL2", [split.outputs[0], axes], {"keepdims": 0})


def _range(value: ir.Value | None) -> tuple[int, int, int] | None:
    """Axis, start and end of a part that a Slice or a Split into two cuts."""
    node = value.producer() if value is not None else None
    if value is None or node is None or not facts.is_op(node, "Slice", "Split"):
        return None
    if node.op_type == "Slice":
        return slice_range(node)
    sizes, widths = facts.dims(node.inputs[0]), [facts.dims(out) for out in node.outputs]
    axis = facts.attribute(node, "axis", 0)
    if sizes is None or len(widths) != 2 or any(one is None or not isinstance(one[axis], int) for one in widths):
        return None
    first, second = (int((one or ())[axis]) for one in widths)
    axis %= len(sizes)
    return (axis, 0, first) if value is node.outputs[0] else (axis, first, first + second)


def slice_range(node: ir.Node) -> tuple[int, int, int] | None:
    """Axis, start and end of a Slice of one axis of a known size in steps of 1."""
    if len(node.inputs) < 3:
        return None
    starts, ends = facts.ints(node.inputs[1]), facts.ints(node.inputs[2])
    axes = [0] if facts.given(node, 3) is None else facts.ints(node.inputs[3])
    steps = [1] if facts.given(node, 4) is None else facts.ints(node.inputs[4])
    sizes = facts.dims(node.inputs[0])
    if sizes is None or steps != [1] or any(one is None or len(one) != 1 for one in (starts, ends, axes)):
        return None
    axis = axes[0] % len(sizes)  # type: ignore[index]
    size = sizes[axis]
    if not isinstance(size, int):
        return None
    start, end, _ = slice(starts[0], ends[0]).indices(size)  # type: ignore[index]
    return axis, start, max(start, end)
