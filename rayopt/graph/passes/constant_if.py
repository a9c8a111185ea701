"""An If whose condition is a constant becomes the branch that it takes.

Left alone: a branch whose output is not made inside it, where that output is one of the graph's.
"""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite

opset, dims = 0, False
needs = ("If",)


def apply(model: ir.Model, limits: object) -> int:
    return sum(_apply(node) for node in facts.nodes(model) if facts.is_op(node, "If"))


def _apply(node: ir.Node) -> bool:
    condition = facts.constant(node.inputs[0], at_most=1)
    if condition is None or condition.size != 1:
        return False
    return inline(node, "then_branch" if condition.reshape(())[()] else "else_branch")


def inline(node: ir.Node, name: str) -> bool:
    """Puts the nodes of a branch before the If and its outputs in the place of the If's."""
    branch = node.attributes[name].as_graph()
    if node.graph is None or not all(
        _fits(old, new, branch) for old, new in zip(node.outputs, branch.outputs, strict=True)
    ):
        return False
    if len(set(branch.outputs)) != len(branch.outputs):
        return False
    results = list(branch.outputs)
    for value in list(branch.initializers.values()):
        del branch.initializers[str(value.name)]
        value.name = rewrite.fresh(node.graph, "branch")
        node.graph.register_initializer(value)
    moved = list(branch)
    branch.outputs.clear()
    branch.remove(moved)
    for inner in moved:
        inner.name = None
        for value in inner.outputs:
            value.name = rewrite.fresh(node.graph, "branch")
    node.graph.insert_before(node, moved)
    for old, new in zip(node.outputs, results, strict=True):
        rewrite.replace(old, new)
    rewrite.remove(node)
    return True


def _fits(old: ir.Value, new: ir.Value, branch: ir.Graph) -> bool:
    return not old.is_graph_output() or (new.producer() is not None and new.graph is branch)
