"""Branches that no input reaches are compared with their condition set by hand, in the original and in the candidate.

A condition becomes an input in all conditionals that take it. They are known by their outputs' names: where a candidate
has others, that branch stays unproven.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rayopt.graph.branches import label_of
from rayopt.graph.structure import graphs_of

BRANCHES = {"then_branch": True, "else_branch": False}
MOST = 16


@dataclass(frozen=True)
class Switch:
    """The conditionals of one condition. `outputs`: the first of each; `around`: the switches that they lie in."""

    outputs: tuple[str, ...]
    labels: tuple[str, ...]
    around: tuple[tuple[str, bool], ...] = ()

    @property
    def name(self) -> str:
        return f"rayopt:set:{self.outputs[0]}"


def switches(model: Any) -> list[Switch]:
    """The conditions of a model's graph and of branches in it, outer ones first; not those in loops."""
    found: list[Switch] = []
    waiting: list[tuple[Any, tuple[tuple[str, bool], ...]]] = [(model.graph, ())]
    while waiting:
        graph, around = waiting.pop(0)
        groups: dict[str, list[Any]] = {}
        for node in graph.node:
            if node.op_type == "If":
                groups.setdefault(node.input[0], []).append(node)
        for nodes in groups.values():
            one = Switch(tuple(node.output[0] for node in nodes), tuple(map(label_of, nodes)), around)
            found.append(one)
            for node in nodes:
                waiting += [(each.g, (*around, (one.name, BRANCHES[each.name]))) for each in node.attribute]
    return found


def opened(model: Any, wanted: Sequence[Switch]) -> tuple[Any, set[str]]:
    """A copy whose switches are inputs, and the names of those that it has."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes: dict[str, list[Any]] = {}
    for node in (node for graph in graphs_of(copy) for node in graph.node if node.op_type == "If"):
        nodes.setdefault(node.output[0], []).append(node)
    there = [one for one in wanted if all(len(nodes.get(output, ())) == 1 for output in one.outputs)]
    for one in there:
        for output in one.outputs:
            nodes[output][0].input[0] = one.name
        copy.graph.input.append(onnx.helper.make_tensor_value_info(one.name, onnx.TensorProto.BOOL, []))
    return copy, {one.name for one in there}


def missing(found: Sequence[Switch], seen: Mapping[str, set[int]]) -> Iterator[tuple[Switch, bool]]:
    """The switches that were told of but not seen in one of their ways."""
    for one in found[:MOST]:
        for way in (True, False):
            if any(label in seen and int(way) not in seen[label] for label in one.labels):
                yield one, way


def settings(found: Sequence[Switch], target: Switch, way: bool, seen: Mapping[str, set[int]]) -> dict[str, bool]:
    """How all switches are set so that one of them is come to and goes that way; the others go one they have gone."""
    usual = {one.name: 1 in seen.get(one.labels[0], ()) for one in found}
    return usual | dict(target.around) | {target.name: way}
