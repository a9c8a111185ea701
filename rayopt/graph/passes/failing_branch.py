"""An If of which one branch makes the model fail, whatever the input, becomes the other branch.

Exporters write "squeeze this axis if its size is 1" as an If; the branch that keeps the axis then meets an LSTM or a
Conv that takes no tensor of that rank. To see it, the branch is put into a copy of the model: where an operator that
is run whenever the If is has an input of an impossible rank, the branch cannot succeed. What failed still fails.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import onnx_ir as ir

from rayopt.graph.passes import constant_if, facts, inference

opset, dims = 11, True
needs = ("If",)
MOST = 16  # Ifs looked at in a round, each for the price of two small runs
TRIED = "rayopt.tried"
STEPS = ("identity", "constant_if", "fold_constants", "shape_arithmetic", "no_op_shape", "dead_code")
ROUNDS = 4
SHAPES_BYTES = 1 << 14  # in the copies only arithmetic on shapes is folded


def apply(model: ir.Model, limits: Any) -> int:
    small = replace(limits, memory_bytes=SHAPES_BYTES)
    count = 0
    for _ in range(MOST):
        node = next((one for one in facts.nodes(model) if facts.is_op(one, "If") and _open(one)), None)
        if node is None:
            break
        node.meta[TRIED] = _size(node)
        for name, other in (("else_branch", "then_branch"), ("then_branch", "else_branch")):
            if _fails(model, node, name, small):  # should the other fail as well, the model fails in any case
                count += constant_if.inline(node, other)
                _settle(model, small)
                break
    return count


def _open(node: ir.Node) -> bool:
    return _ranks_differ(node) and node.meta.get(TRIED) != _size(node)


def _size(node: ir.Node) -> int:
    """What tells a graph in which something was rewritten since an If was tried."""
    return len(node.graph or ())


def _settle(model: ir.Model, limits: Any) -> bool:
    """One round of the steps that carry what a branch says of ranks to the operators after it; whether any rewrote."""
    steps = [importlib.import_module(f"rayopt.graph.passes.{step}") for step in STEPS]
    if not sum(step.apply(model, limits) for step in steps):
        return False
    inference.infer(model)
    return True


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
        if not _settle(copy, limits):
            return False
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
    return node.op_type == "Gemm" and rank not in (1, 2)  # the runtime takes a row as well
