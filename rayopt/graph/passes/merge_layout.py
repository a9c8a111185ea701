"""A chain of Reshapes, Transposes, Squeezes and Unsqueezes is written anew where fewer of them do the same.

Every size must be known as a product of the inputs' sizes, and each Reshape must be sayable with one -1.
"""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts, layout, rewrite, symbolic

opset, dims = 5, True
needs = ("Transpose",)


def apply(model: ir.Model, limits: object) -> int:
    found = [node for node in facts.nodes(model) if facts.is_op(node, *layout.LAYOUTS)]
    return sum(_apply(node) for node in reversed(found) if facts.alive(node))


def _apply(node: ir.Node) -> bool:
    if facts.only_user(node.outputs[0], *layout.LAYOUTS) is not None:
        return False  # the chain goes on
    nodes = layout.chain(node)
    found = layout.traced(nodes) if len(nodes) > 1 else None
    source = nodes[0].inputs[0]
    if found is None or source is None:
        return False
    plan = layout.plan(*found)
    return plan.count < len(nodes) and _write(node, source, plan)


def _write(node: ir.Node, source: ir.Value, plan: layout.Plan) -> bool:
    sizes = facts.dims(source)
    middle = plan.before or sizes or ()
    moved = tuple(middle[axis] for axis in plan.perm) if plan.perm is not None else middle
    first = symbolic.target(sizes, plan.before) if plan.before is not None else []
    last = symbolic.target(moved, plan.after) if plan.after is not None else []
    if first is None or last is None:
        return False
    value = source
    if plan.before is not None:
        value = _made(node, "Reshape", [value, rewrite.store_ints(node, first)], {}, plan.before)
    if plan.perm is not None:
        value = _made(node, "Transpose", [value], {"perm": plan.perm}, moved)
    if plan.after is not None:
        value = _made(node, "Reshape", [value, rewrite.store_ints(node, last)], {}, plan.after)
    return rewrite.skip(node, value)


def _made(
    node: ir.Node,
    operator: str,
    inputs: list[ir.Value | None],
    attributes: dict[str, object],
    sizes: tuple[facts.Dim, ...],
) -> ir.Value:
    value = rewrite.insert(node, operator, inputs, attributes).outputs[0]
    value.meta[facts.DIMS] = sizes
    return value
