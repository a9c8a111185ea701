"""A Split of what layouts brought to the front is made before them, where the layouts after it then take them in.

So queries, keys and values, cut from one product, are split along its last axis.
"""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts, layout, rewrite

opset, dims = 18, True
needs = ("Split",)


def apply(model: ir.Model, limits: object) -> int:
    return sum(_apply(node) for node in facts.nodes(model) if facts.is_op(node, "Split"))


def _apply(node: ir.Node) -> bool:
    first = facts.made_by(node.inputs[0], *layout.LAYOUTS)
    if first is None or not facts.used_once(first.outputs[0]) or first.graph is not node.graph:
        return False
    before = layout.chain(first)
    after = [layout.following(value) for value in node.outputs]
    found, source = layout.traced(before), before[0].inputs[0]
    if found is None or source is None or not all(after):
        return False
    atoms, start, rows = found
    axis = facts.attribute(node, "axis", 0) % len(rows)
    parts = len(node.outputs)
    if any((facts.dims(value) or (0,) * len(rows))[axis] != 1 for value in node.outputs) or len(rows[axis]) != 1:
        return False
    cut = rows[axis][0]
    where = next(place for place, one in enumerate(start) if cut in one)
    if start[where][0] != cut or len(start[where]) < 2:
        return False
    piece = [one if place != where else one[1:] for place, one in enumerate(start)]
    ends = [layout.carried(atoms, [*rows[:axis], [], *rows[axis + 1 :]], nodes) for nodes in after]
    if any(end is None for end in ends):
        return False
    plans = [layout.plan(atoms, atoms.whole(piece), end) for end in ends if end is not None]
    if 1 + sum(plan.count for plan in plans) >= len(before) + 1 + sum(map(len, after)):
        return False
    return _write(node, source, where, parts, plans, before, after)


def _write(
    node: ir.Node,
    source: ir.Value,
    where: int,
    parts: int,
    plans: list[layout.Plan],
    before: list[ir.Node],
    after: list[list[ir.Node]],
) -> bool:
    sizes = facts.dims(source) or ()
    width = int(sizes[where]) // parts
    piece = (*sizes[:where], width, *sizes[where + 1 :])
    if any(layout.told(piece, plan, [*before, *nodes]) is None for plan, nodes in zip(plans, after, strict=True)):
        return False
    lengths = rewrite.store_ints(node, [width] * parts, "split")
    split = rewrite.insert(node, "Split", [source, lengths], {"axis": where}, parts)
    for value, plan, nodes in zip(split.outputs, plans, after, strict=True):
        value.meta[facts.DIMS], value.meta[facts.DTYPE] = piece, facts.dtype(source)
        made = layout.write(nodes[-1], value, piece, plan, [*before, *nodes])
        if made is not None:  # else the old way stays for this part
            rewrite.skip(nodes[-1], made)
    return True
