"""A chain of Reshapes, Transposes, Squeezes and Unsqueezes is written anew where fewer of them do the same.

Every size must be known as a product of the inputs' sizes, and each Reshape must be sayable with one -1.
"""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts, layout, rewrite

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
    if plan.count >= len(nodes):
        return False
    value = layout.write(node, source, facts.dims(source) or (), plan, nodes)
    return value is not None and rewrite.skip(node, value)
