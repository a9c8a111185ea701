"""Names inside bodies that hide none outside: what a pass puts into a body is not taken for something of its own.

Files may give a body's input the name of a value around it. The inputs of bodies go by their place, so that they can be
called otherwise, but for those of foreign operators.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite


def distinct(model: ir.Model) -> None:
    """Gives fresh names to what bodies call like something outside of them."""
    if len(facts.graphs(model)) == 1:
        return
    waiting: list[tuple[ir.Graph, frozenset[str], bool]] = [(model.graph, frozenset(), False)]
    while waiting:
        graph, outer, ours = waiting.pop()
        if ours:
            for value in [one for one in _values(graph) if one.name in outer]:
                value.name = rewrite.fresh(graph, "inner")
        inner = [(body, not node.domain) for node in graph if node.attributes for body in facts.bodies(node)]
        if inner:
            known = outer | {str(one.name) for one in _values(graph) if one.name}
            waiting.extend((body, known, standard) for body, standard in inner)


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    """All that a graph itself names; an input with a default comes twice."""
    return itertools.chain(graph.inputs, graph.initializers.values(), *(node.outputs for node in graph))
