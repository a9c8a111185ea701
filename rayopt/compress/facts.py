"""What is in an ONNX model: which operators, and how many bytes of weights each of them holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rayopt.compress.onnx_layers import find_layers, graphs, prepare
from rayopt.errors import StepError
from rayopt.models.onnx_model import to_proto
from rayopt.records import Artifact

ALONE = ("Conv", "MatMul", "Gemm")  # what quantisers can leave in float, node by node


@dataclass(frozen=True)
class Facts:
    """What is known of the model beforehand.

    weights: bytes of weights by the operator that uses them. trainable: whether it is a torch model with rows to train
    on. generated: there is no data: only what provably keeps the outputs can be recommended. layers: names of the nodes
    that can be quantised by themselves, those with most weights first. problem: why it cannot be quantised, if so.
    """

    weights: Mapping[str, int]
    operators: frozenset[str]
    trainable: bool
    generated: bool = False
    layers: tuple[str, ...] = ()
    problem: str = ""

    def share(self, *operators: str) -> float:
        """The share of the weights that these operators hold."""
        total = sum(self.weights.values())
        return sum(self.weights.get(name, 0) for name in operators) / total if total else 0.0


def facts_of(artifact: Artifact, trainable: bool, generated: bool) -> Facts:
    """The facts that a recipe goes by, of an ONNX file."""
    try:
        proto = prepare(artifact)
    except StepError as error:
        return Facts({}, _operators(to_proto(artifact)), trainable, generated, problem=str(error))
    weights: dict[str, int] = {}
    found = find_layers(proto)
    for layer in found:
        weights[layer.operator] = weights.get(layer.operator, 0) + layer.weight_bytes
    alone = [layer for layer in found if layer.operator in ALONE and not layer.nested]
    alone.sort(key=lambda layer: (-layer.weight_bytes, layer.name))
    return Facts(weights, _operators(proto), trainable, generated, tuple(layer.name for layer in alone))


def _operators(proto: object) -> frozenset[str]:
    return frozenset(node.op_type for graph in graphs(proto.graph) for node in graph.node)  # type: ignore[attr-defined]
