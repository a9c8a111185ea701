"""What is in an ONNX model: which operators, and how many bytes of weights each of them holds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rayopt.models.onnx_model import to_proto
from rayopt.records import Artifact

LAYERS = ("Conv", "ConvTranspose", "MatMul", "Gemm")


@dataclass(frozen=True)
class Facts:
    """What is known of the model beforehand.

    weights: bytes of weights by the operator that uses them. trainable: whether it is a torch model with rows to train
    on. generated: there is no data, and only what provably keeps the outputs is of use. layers: names of the nodes that
    can be quantised by themselves, those with most weights first.
    """

    weights: Mapping[str, int]
    operators: frozenset[str]
    trainable: bool
    generated: bool = False
    layers: tuple[str, ...] = ()

    def share(self, *operators: str) -> float:
        """The share of the weights that these operators hold."""
        total = sum(self.weights.values())
        return sum(self.weights.get(name, 0) for name in operators) / total if total else 0.0


def facts_of(artifact: Artifact, trainable: bool, generated: bool) -> Facts:
    """The facts that a recipe goes by, of an ONNX file."""
    model = to_proto(artifact)
    weights: dict[str, int] = {}
    operators: set[str] = set()
    layers: dict[str, int] = {}
    for graph in _graphs(model.graph):
        sizes = {one.name: _bytes(one) for one in graph.initializer}
        for node in graph.node:
            operators.add(node.op_type)
            if node.op_type in LAYERS and graph is model.graph and node.name:
                layers[node.name] = sum(sizes.get(name, 0) for name in node.input)
            for name in node.input:  # a shared weight counts for the operator that uses it first
                weights[node.op_type] = weights.get(node.op_type, 0) + sizes.pop(name, 0)
    found = {name: size for name, size in weights.items() if size}
    ranked = sorted((name for name in layers if layers[name]), key=lambda name: (-layers[name], name))
    return Facts(found, frozenset(operators), trainable, generated, tuple(ranked))


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _graphs(inner)


def _bytes(tensor: Any) -> int:
    """The bytes of an initializer's values; not of what it holds beside them."""
    width = {10: 2, 16: 2, 11: 8, 7: 8, 1: 4, 6: 4}.get(tensor.data_type, 1)  # TensorProto's numbers of types
    return int(math.prod(tensor.dims)) * width
