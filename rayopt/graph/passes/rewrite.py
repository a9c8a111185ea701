"""Small surgery on a graph that passes share: put a value in another's place, insert nodes, store constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from rayopt.graph.passes import facts

Array = np.ndarray[Any, Any]
MADE, PREFIX = "rayopt.made", "rayopt/"


def replace(old: ir.Value, new: ir.Value) -> bool:
    """Uses of `old` become uses of `new`, which takes over its name where it is an output; whether that can be.

    An output can only be taken over by what a node of the same graph makes and what is no output itself.
    """
    if old is new:
        return False
    if old.is_graph_output():
        if new.producer() is None or new.graph is not old.graph or new.is_graph_output():
            return False
        name, kept, kind = old.name, old.shape, old.type
        metadata = dict(old.metadata_props)
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name = None
        new.name = name
        new.shape, new.type = kept, kind
        new.metadata_props.update(metadata)
    else:
        old.replace_all_uses_with(new)
    known = old.meta
    for key in (facts.DIMS, facts.DTYPE) if known else ():
        if known.get(key) is not None and new.meta.get(key) is None:
            new.meta[key] = known[key]
    return True


def remove(node: ir.Node) -> None:
    """Takes out a node whose outputs nobody uses, and then those that only it used."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if one.graph is None or is_used(one):
            continue
        makers = [value.producer() for value in one.inputs if value is not None]
        discard(one)
        waiting.extend(maker for maker in makers if maker is not None and maker.domain == "")


def is_used(node: ir.Node) -> bool:
    """Whether another node or an output takes anything that a node gives."""
    for value in node.outputs:  # noqa: SIM110 - any() takes twice as long, and each node is asked
        if value.uses() or value.is_graph_output():
            return True
    return False


def discard(node: ir.Node) -> None:
    """Takes out a node that is not used, and lets go of what the bodies inside it use."""
    waiting = facts.bodies(node) if node.attributes else []
    while waiting:
        for inner in waiting.pop():
            waiting.extend(facts.bodies(inner))
            for place in range(len(inner.inputs)):
                inner.replace_input_with(place, None)
    if node.graph is not None:
        node.graph.remove(node, safe=True)


def skip(node: ir.Node, value: ir.Value) -> bool:
    """A node of one used output goes, and `value` stands for what it gave; whether that can be."""
    if not replace(node.outputs[0], value):
        return False
    remove(node)
    return True


def insert(
    before: ir.Node,
    operator: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, Any] | None = None,
    outputs: int = 1,
) -> ir.Node:
    """A new node in front of another."""
    node = ir.node(operator, list(inputs), attributes=dict(attributes or {}), num_outputs=outputs)
    graph = before.graph
    if graph is None:
        raise ValueError(f"{before.op_type} is in no graph")
    for value in node.outputs:
        value.name = fresh(graph, operator.lower())
    graph.insert_before(before, node)
    return node


def put(
    old: ir.Node, operator: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any] | None = None
) -> bool:
    """A new node gives what the first output of `old` gave; whether that can be."""
    node = insert(old, operator, inputs, attributes)
    return skip(old, node.outputs[0])


def store(near: ir.Node, array: Array, hint: str = "constant") -> ir.Value:
    """A new initializer of the outermost graph."""
    graph = root(near)
    name = fresh(graph, hint)
    tensor = ir.Tensor(np.array(array, order="C"), name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def store_ints(near: ir.Node, numbers: Sequence[int], hint: str = "shape") -> ir.Value:
    return store(near, np.array(numbers, np.int64), hint)


def root(node: ir.Node) -> ir.Graph:
    """The outermost graph that a node is in."""
    if node.graph is None:
        raise ValueError(f"{node.op_type} is in no graph")
    return node.graph.meta[facts.ROOT]  # type: ignore[no-any-return]


def fresh(graph: ir.Graph, hint: str) -> str:
    """A name that no other value of the model has."""
    top = graph.meta[facts.ROOT]
    if MADE not in top.meta:
        top.meta[MADE] = _highest(top)
    top.meta[MADE] += 1
    return f"{PREFIX}{hint}_{top.meta[MADE]}"


def _highest(top: ir.Graph) -> int:
    """The highest number among names of ours that the file brought along."""
    found, waiting = [0], [top]
    while waiting:
        graph = waiting.pop()
        values = (*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs))
        ends = [str(one.name).rpartition("_")[2] for one in values if str(one.name).startswith(PREFIX)]
        found.extend(int(end) for end in ends if end.isdecimal())
        waiting.extend(body for node in graph for body in facts.bodies(node))
    return max(found)
