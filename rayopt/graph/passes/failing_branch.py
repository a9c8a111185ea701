"""An If of which one branch makes the model fail, whatever the input, becomes the other branch.

Exporters write "squeeze this axis if its size is 1" as an If; the branch that keeps the axis then meets an LSTM or a Conv
that takes no tensor of that rank. To see it, the branch is put into a copy of the model: where an operator that is run
whenever the If is has an input of an impossible rank, the branch cannot succeed. The model still fails where it failed.
"""

from __future__ import annotations

import importlib
from typing import Any

import onnx_ir as ir

from rayopt.graph.passes import constant_if, facts, inference

opset, dims = 11, True
MOST = 16  # Ifs looked at, each for the price of two small runs
STEPS = ("identity", "constant_if", "fold_constants", "shape_arithmetic", "no_op_shape", "dead_code")
ROUNDS = 4


def apply(model: ir.Model, limits: Any) -> int:
    found = [node for node in facts.nodes(model) if facts.is_op(node, "If") and _ranks_differ(node)]
    count = 0
    for node in found[:MOST]:
        for name, other in (("else_branch", "then_branch"), ("then_branch", "else_branch")):
            if facts.alive(node) and _fails(model, node, name, limits) and not _fails(model, node, other, limits):
                count += constant_if.inline(node, other)
    return count


def _ranks_differ(node: ir.Node) -> bool:
    """Whether the branches give tensors of different ranks: what is known of the result then ends here."""
    if len(node.outputs) != 1 or node.attributes.keys() != {"then_branch", "else_branch"}:
        return False
    ranks = [facts.rank(node.attributes[name].as_graph().outputs[0]) for name in node.attributes]
    return None not in ranks and ranks[0] != ranks[1]


def _fails(model: ir.Model, node: ir.Node, name: str, limits: Any) -> bool:
    copy = model.clone()
    where = next(place for place, graph in enumerate(facts.graphs(model)) if graph is node.graph)
    graph = facts.graphs(copy)[where]
    twin = next(graph[at] for at, one in enumerate(node.graph or ()) if one is node)
    if not constant_if.inline(twin, name):
        return False
    inference.infer(copy)
    for _ in range(ROUNDS):
        if any(_impossible(one) for one in graph):
            return True
        if not sum(importlib.import_module(f"rayopt.graph.passes.{step}").apply(copy, limits) for step in STEPS):
            break
        inference.infer(copy)
    return any(_impossible(one) for one in graph)


def _impossible(node: ir.Node) -> bool:
    """Whether an operator surely does not take an input of the rank that it gets."""
    rank = facts.rank(node.inputs[0]) if node.inputs else None
    if rank is None or node.domain:
        return False
    if node.op_type in ("LSTM", "GRU", "RNN"):
        return rank != 3
    if node.op_type in ("Conv", "ConvTranspose"):
        weight = facts.rank(node.inputs[1])
        return weight is not None and weight != rank
    return node.op_type == "Gemm" and rank != 2
