"""Which branches of conditionals a run takes: every condition is led out of the model, from inside other branches too.

An output of each conditional tells 1 for its then-branch, 0 for its else-branch, -1 where it was not come to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from rayopt.graph.structure import graphs_of

MOST = 200  # conditionals: each is led out through all that are around it
NOT_REACHED = -1


@dataclass(frozen=True)
class Watched:
    """A conditional, as it is called in the model, and the output that tells about it."""

    label: str
    output: str


def label_of(node: Any) -> str:
    return str(node.name or node.output[0])


def conditionals(model: Any) -> list[str]:
    """Every conditional of a model, those in loops and functions among them."""
    return [label_of(node) for graph in graphs_of(model) for node in graph.node if node.op_type == "If"]


def watched(model: Any) -> tuple[Any, tuple[Watched, ...]]:
    """A copy with an output more for each conditional outside loops and functions; the model itself without any."""
    import onnx

    if not 0 < len(conditionals(model)) <= MOST:
        return model, ()
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    found = _led_out(copy.graph, (f"rayopt:way{index}" for index in count()))
    copy.graph.output.extend(_info(one.output) for one in found)
    return copy, tuple(found)


def _led_out(graph: Any, names: Iterator[str]) -> list[Watched]:
    """What tells about the conditionals of a graph, and of the branches inside it, as values of the graph."""
    found: list[Watched] = []
    nodes: list[Any] = []
    for node in list(graph.node):
        nodes.append(node)
        if node.op_type == "If":
            label, own = label_of(node), next(names)
            nodes += _way(node.input[0], own)
            found += [Watched(label, own), *_from_branches(node, names)]
    if found:
        del graph.node[:]
        graph.node.extend(nodes)
    return found


def _from_branches(node: Any, names: Iterator[str]) -> list[Watched]:
    branches = [one.g for one in node.attribute if one.name in ("then_branch", "else_branch")]
    found = []
    for branch, other in zip(branches, branches[::-1], strict=True):
        for one in _led_out(branch, names):
            instead, outer = next(names), next(names)
            branch.output.append(_info(one.output))
            other.node.append(_constant(instead, [NOT_REACHED], 3))
            other.output.append(_info(instead))
            node.output.append(outer)
            found.append(Watched(one.label, outer))
    return found


def _way(condition: str, output: str) -> list[Any]:
    import onnx

    return [
        onnx.helper.make_node("Cast", [condition], [f"{output}:number"], to=onnx.TensorProto.INT8),
        _constant(f"{output}:one", [1], onnx.TensorProto.INT64),
        onnx.helper.make_node("Reshape", [f"{output}:number", f"{output}:one"], [output]),
    ]


def _constant(name: str, numbers: list[int], kind: int) -> Any:
    import onnx

    return onnx.helper.make_node("Constant", [], [name], value=onnx.helper.make_tensor(name, kind, [1], numbers))


def _info(name: str) -> Any:
    import onnx

    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT8, [1])
