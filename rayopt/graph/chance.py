"""Random operators cannot be compared by their outputs: they are cut out of both models and what they give is fed.

The same operators with the same attributes must be there; then all else is compared as numbers. One that has inputs is
not fed but computed: something in its place gives numbers that are the same each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rayopt.errors import StepError
from rayopt.graph.folding import RANDOM
from rayopt.graph.sessions import open_session, run
from rayopt.graph.stand_in import check_opset, stand_in
from rayopt.graph.structure import graphs_of, nested
from rayopt.graph.verdicts import Refused

MAY_DRAW = {*RANDOM, "Dropout"}


@dataclass(frozen=True)
class Place:
    """Where a random operator was: what it is, and its number in the original. `name`: of what is fed in its place."""

    signature: str
    output: str
    index: int

    @property
    def name(self) -> str:
        return f"drawn:{self.output}"


@dataclass(frozen=True)
class Original:
    """A model with its random operators cut out; `drawn`: what those without inputs give, by the name it is fed as."""

    cut: Any
    drawn: Mapping[str, Any] = field(default_factory=dict)
    places: tuple[Place, ...] = ()

    def fed(self, values: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """The inputs together with what the random operators are to give."""
        more = {}
        for index, (name, array) in enumerate(self.drawn.items()):
            generator = np.random.default_rng([seed, index])
            more[name] = generator.permutation(np.asarray(array).ravel()).reshape(np.shape(array))
        return {**values, **more}

    def matched(self, model: Any) -> Any:
        """A candidate cut at the same operators; raises StepError where it has others."""
        if not self.places:
            if any(node.op_type in RANDOM for graph in graphs_of(model) for node in graph.node):
                raise StepError("it has random operators, the original has none")
            return model
        nodes = _live(model)
        if sorted(map(_signature, nodes)) != sorted(one.signature for one in self.places):
            raise StepError("its random operators are not the original's")
        taken: list[Place] = []
        left = list(self.places)
        for node in nodes:
            same = [one for one in left if one.signature == _signature(node)]
            taken.append(next((one for one in same if one.output == node.output[0]), same[0]))
            left.remove(taken[-1])
        return _cut(model, nodes, taken)


def of(model: Any) -> Original:
    """The original, cut; raises Refused where its random operators lie where they cannot be cut out."""
    placed = [(graph, node) for graph in graphs_of(model) for node in graph.node if node.op_type in MAY_DRAW]
    if any(node.op_type in RANDOM and graph is not model.graph for graph, node in placed):
        raise Refused("not_comparable", "random operators inside a branch, loop or function")
    if any(_trains(node) for _, node in placed):
        raise Refused("not_comparable", "dropout that may be switched on is a random operator")
    nodes = _live(model) if placed else []
    if not nodes:
        return Original(model)
    places = [Place(_signature(node), node.output[0], index) for index, node in enumerate(nodes)]
    if any(node.input for node in nodes):
        check_opset(next((int(one.version) for one in model.opset_import if one.domain in ("", "ai.onnx")), 1))
    return Original(_cut(model, nodes, places), _observed(model, nodes, places), tuple(places))


def _trains(node: Any) -> bool:
    return bool(node.op_type == "Dropout" and len(node.input) > 2 and node.input[2])


def _live(model: Any) -> list[Any]:
    """The random operators of the outermost graph on which an output depends, in their order."""
    wanted = {one.name for one in model.graph.output}
    found = []
    for node in reversed(model.graph.node):
        if wanted.isdisjoint(node.output[:]):
            continue
        wanted.update(node.input[:])
        stack = nested(node)
        while stack:
            graph = stack.pop()
            wanted.update(one.name for one in graph.output)
            for inner in graph.node:
                wanted.update(inner.input)
                stack += nested(inner)
        if node.op_type in RANDOM:
            found.append(node)
    return found[::-1]


def _signature(node: Any) -> str:
    told = sorted(attribute.SerializeToString(deterministic=True).hex() for attribute in node.attribute)
    return f"{node.domain}:{node.op_type}({len(node.input)}) {' '.join(told)}"


def _observed(model: Any, nodes: Sequence[Any], places: Sequence[Place]) -> dict[str, Any]:
    """What the operators without inputs give once: types and shapes, the same for every input."""
    import onnx

    alone = [(node, place.name) for node, place in zip(nodes, places, strict=True) if not node.input]
    if not alone:
        return {}
    outputs = [onnx.helper.make_empty_tensor_value_info(node.output[0]) for node, _ in alone]
    graph = onnx.helper.make_graph([node for node, _ in alone], "drawn", [], outputs)
    made = onnx.helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=max(8, model.ir_version))
    return dict(zip([name for _, name in alone], run(open_session(made.SerializeToString()), {}), strict=True))


def _cut(model: Any, nodes: Sequence[Any], places: Sequence[Place]) -> Any:
    """A copy in which the outputs of `nodes` are inputs under their places' names, or come from what stands in."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    at = {node.output[0]: place for node, place in zip(nodes, places, strict=True)}
    kept: list[Any] = []
    for node in copy.graph.node:
        place = at.get(node.output[0]) if node.op_type in RANDOM else None
        if place is None:
            kept.append(node)
        elif node.input:
            kept += stand_in(node, place.index)
        else:
            kept.append(onnx.helper.make_node("Identity", [place.name], [node.output[0]]))
            copy.graph.input.append(onnx.helper.make_tensor_value_info(place.name, _type(node), None))
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy


def _type(node: Any) -> int:
    given = next((attribute.i for attribute in node.attribute if attribute.name == "dtype"), 1)
    return int(given)
