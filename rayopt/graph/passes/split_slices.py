"""Slices, or Gathers of one place, that cut a tensor into all its parts along an axis become one Split.

A Gather counts where a single Squeeze, Unsqueeze or Reshape follows, which then takes in the axis that it drops.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite
from rayopt.graph.passes.reduce_square import slice_range

opset, dims = 18, True
needs = ("Slice", "Gather")
LAYOUTS = ("Unsqueeze", "Reshape", "Squeeze")


class Part(NamedTuple):
    axis: int
    start: int
    end: int
    node: ir.Node


def apply(model: ir.Model, limits: object) -> int:
    count = 0
    for graph in facts.graphs(model):
        by_source: dict[ir.Value, list[Part]] = {}
        for node in graph:
            part = _part(node)
            if part is not None and node.inputs[0] is not None and not facts.is_constant(node.inputs[0]):
                by_source.setdefault(node.inputs[0], []).append(part)
        count += sum(_split(source, parts) for source, parts in by_source.items())
    return count


def _part(node: ir.Node) -> Part | None:
    if facts.is_op(node, "Slice"):
        found = slice_range(node)
        return None if found is None else Part(*found, node)
    if not facts.is_op(node, "Gather") or facts.rank(node.inputs[1]) not in (0, 1):
        return None
    sizes, places = facts.dims(node.inputs[0]), facts.ints(node.inputs[1])
    if sizes is None or places is None or len(places) != 1:
        return None
    axis = facts.attribute(node, "axis", 0) % len(sizes)
    size = sizes[axis]
    scalar = facts.rank(node.inputs[1]) == 0
    if not isinstance(size, int) or (scalar and facts.only_user(node.outputs[0], *LAYOUTS) is None):
        return None
    start = places[0] % size if size else 0
    return Part(axis, start, start + 1, node)


def _split(source: ir.Value, parts: list[Part]) -> int:
    for axis in {part.axis for part in parts}:
        chosen = sorted((part for part in parts if part.axis == axis), key=lambda part: part.start)
        size = (facts.dims(source) or ())[axis]
        edges = [0, *(part.end for part in chosen)]
        if len(chosen) < 2 or [part.start for part in chosen] != edges[:-1] or edges[-1] != size:
            continue
        if any(part.end == part.start or part.node.outputs[0].is_graph_output() for part in chosen):
            continue
        first = next(node for node in parts[0].node.graph or () if any(part.node is node for part in chosen))
        widths = [part.end - part.start for part in chosen]
        lengths = rewrite.store_ints(first, widths, "split")
        split = rewrite.insert(first, "Split", [source, lengths], {"axis": axis}, len(chosen))
        for part, value in zip(chosen, split.outputs, strict=True):
            _put(part, value, source)
        return len(chosen) - 1
    return 0


def _put(part: Part, value: ir.Value, source: ir.Value) -> None:
    node, sizes = part.node, facts.dims(source) or ()
    value.meta[facts.DTYPE] = facts.dtype(source)
    value.meta[facts.DIMS] = (*sizes[: part.axis], part.end - part.start, *sizes[part.axis + 1 :])
    if node.op_type == "Gather" and facts.rank(node.inputs[1]) == 0:
        rewrite.put(node, "Squeeze", [value, rewrite.store_ints(node, [part.axis], "axes")])
    else:
        rewrite.replace(node.outputs[0], value)
        rewrite.remove(node)
