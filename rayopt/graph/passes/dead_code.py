"""Takes out nodes that no output needs, in linear time; initializers and operator sets that nobody uses.

Inputs stay, used or not, and so do their defaults. Foreign operators may do something that does not show: they stay.
"""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite

opset, dims = 0, False
needs = ()


def apply(model: ir.Model, limits: object) -> int:
    count = 0
    for graph in reversed(facts.graphs(model)):  # inner bodies first: what they alone used is then unused outside
        for node in reversed(graph):
            if node.domain == "" and not rewrite.is_used(node):
                rewrite.discard(node)
                count += 1
            else:
                _drop_outputs(node)
    for graph in facts.graphs(model):
        for name, value in list(graph.initializers.items()):
            if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
                del graph.initializers[name]
    _drop_domains(model)
    return count


def _drop_outputs(node: ir.Node) -> None:
    """Dropout's mask that nobody reads is left out: with it the operator may not be seen to do nothing."""
    if facts.is_op(node, "Dropout", "MaxPool") and len(node.outputs) > 1:
        last = node.outputs[1]
        if not last.uses() and not last.is_graph_output():
            node.resize_outputs(1)


def _drop_domains(model: ir.Model) -> None:
    used = {node.domain for node in facts.nodes(model)} | {""}
    if not model.functions:
        for domain in [one for one in model.opset_imports if one not in used and one != "ai.onnx"]:
            del model.opset_imports[domain]
