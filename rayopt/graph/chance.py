"""Random operators cannot be compared by their outputs: they are cut out of both models and what they give is fed.

The same operators with the same attributes must be there, given the same inputs; then all else is compared as numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rayopt.errors import StepError
from rayopt.graph.folding import RANDOM
from rayopt.graph.sessions import open_session, run
from rayopt.graph.structure import graphs_of, nested
from rayopt.graph.verdicts import Refused


@dataclass(frozen=True)
class Original:
    """A model with its random operators cut out; `drawn`: what they give, by the name under which it is fed."""

    cut: Any
    drawn: Mapping[str, Any] = field(default_factory=dict)
    signatures: tuple[str, ...] = ()

    def fed(self, values: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """The inputs together with what the random operators are to give."""
        more = {}
        for index, (name, array) in enumerate(self.drawn.items()):
            generator = np.random.default_rng([seed, index])
            more[name] = generator.permutation(np.asarray(array).ravel()).reshape(np.shape(array))
        return {**values, **more}

    def matched(self, model: Any) -> Any:
        """A candidate cut at the same operators; raises StepError where it has others."""
        if not self.signatures:
            if any(node.op_type in RANDOM for graph in graphs_of(model) for node in graph.node):
                raise StepError("it has random operators, the original has none")
            return model
        nodes = _live(model)
        if sorted(map(_signature, nodes)) != sorted(self.signatures):
            raise StepError("its random operators are not the original's")
        names: list[str] = []
        left = list(zip(self.signatures, self.drawn, strict=True))
        for node in nodes:
            signature = _signature(node)
            same = [pair for pair in left if pair[0] == signature]
            pair = next((one for one in same if one[1] == f"drawn:{node.output[0]}"), same[0])
            left.remove(pair)
            names.append(pair[1])
        return _cut(model, nodes, names)


def of(model: Any) -> Original:
    """The original, cut; raises Refused where its random operators lie where they cannot be cut out."""
    inner = [node for graph in graphs_of(model) if graph is not model.graph for node in graph.node]
    if any(node.op_type in RANDOM for node in inner):
        raise Refused("not_comparable", "random operators inside a branch, loop or function")
    if any(_trains(node) for graph in graphs_of(model) for node in graph.node):
        raise Refused("not_comparable", "dropout that may be switched on is a random operator")
    nodes = _live(model)
    if not nodes:
        return Original(model)
    names = [f"drawn:{node.output[0]}" for node in nodes]
    return Original(_cut(model, nodes, names), _observed(model, nodes, names), tuple(map(_signature, nodes)))


def _trains(node: Any) -> bool:
    return bool(node.op_type == "Dropout" and len(node.input) > 2 and node.input[2])


def _live(model: Any) -> list[Any]:
    """The random operators of the outermost graph on which an output depends, in their order."""
    wanted = {one.name for one in model.graph.output}
    found = []
    for node in reversed(model.graph.node):
        if not wanted.intersection(node.output):
            continue
        wanted.update(node.input)
        stack = list(nested(node))
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


def _observed(model: Any, nodes: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """What the operators give once: types, and shapes where these are the same for every input."""
    import onnx

    if any(node.input for node in nodes):
        raise Refused("not_comparable", "random operators whose shape depends on the inputs")
    graph = onnx.helper.make_graph(
        list(nodes), "drawn", [], [onnx.helper.make_empty_tensor_value_info(node.output[0]) for node in nodes]
    )
    alone = onnx.helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=max(8, model.ir_version))
    return dict(zip(names, run(open_session(alone.SerializeToString()), {}), strict=True))


def _cut(model: Any, nodes: Sequence[Any], names: Sequence[str]) -> Any:
    """A copy in which the outputs of `nodes` are inputs of the given names."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    gone = {node.output[0]: name for node, name in zip(nodes, names, strict=True)}
    kept = [node for node in copy.graph.node if not (node.op_type in RANDOM and node.output[0] in gone)]
    del copy.graph.node[:]
    for output, name in gone.items():
        copy.graph.node.append(onnx.helper.make_node("Identity", [name], [output]))
    copy.graph.node.extend(kept)
    types = {node.output[0]: _type(node) for node in nodes}
    for output, name in gone.items():
        copy.graph.input.append(onnx.helper.make_tensor_value_info(name, types[output], None))
    return copy


def _type(node: Any) -> int:
    given = next((attribute.i for attribute in node.attribute if attribute.name == "dtype"), 1)
    return int(given)
