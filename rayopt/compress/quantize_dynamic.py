"""8-bit weights, activations quantised as they come: no data is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rayopt.compress.onnx_layers import (
    chosen,
    excluded,
    find_layers,
    finished,
    graphs,
    prepare,
    run_tool,
)
from rayopt.compress.rewrite import gemm_to_matmul
from rayopt.compress.settings import DynamicSettings
from rayopt.records import Artifact

DEFAULT = DynamicSettings()


def quantize_dynamic(
    model: Artifact, settings: DynamicSettings = DEFAULT, only: Sequence[str] | None = None
) -> Artifact:
    """The model with 8-bit weights; of the nodes named in `only` alone if given.

    What `quantize_static` has done stays as it is. Nothing inside If, Loop and Scan is quantised; the notes count it.
    Raises StepError when nothing was quantised.
    """
    proto = prepare(model)
    before = find_layers(proto)
    left = set(excluded(proto, settings.exclude))
    left |= {layer.name for layer in before if layer.operator not in settings.operators}
    names = chosen(proto, only)
    gemm_to_matmul(proto)
    _give_each_lstm_its_weights(proto)
    operators = sorted({"MatMul" if one == "Gemm" else one for one in settings.operators})

    def tool(path: str, after: str) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        kind = QuantType.QInt8 if settings.weights == "int8" else QuantType.QUInt8
        quantize_dynamic(
            path, after, operators, settings.per_channel, settings.reduce_range, kind,
            nodes_to_quantize=names, nodes_to_exclude=sorted(left), extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip

    return finished(before, run_tool(proto, tool))


def _give_each_lstm_its_weights(proto: Any) -> None:
    """Copies weights that several nodes share for each LSTM: the tool changes their shape in place."""
    uses: dict[str, int] = {}
    for graph in graphs(proto.graph):
        for node in graph.node:
            for name in node.input:
                uses[name] = uses.get(name, 0) + 1
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        for index in (1, 2) if node.op_type == "LSTM" else ():
            name = node.input[index]
            if name in constants and uses[name] > 1:
                copy = proto.graph.initializer.add()
                copy.CopyFrom(constants[name])
                copy.name = node.input[index] = f"{name}_{node.name}"
                uses[name] -= 1
