"""What all ONNX quantisers share: a model made ready, its layers with weights, and what became of each of them."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from rayopt.errors import StepError, did_you_mean
from rayopt.models.onnx_model import MODEL, from_proto, to_proto
from rayopt.records import Artifact

LARGEST_BYTES = 2**31 - 1  # of one protobuf message
WEIGHTS: Mapping[str, tuple[int, ...]] = {  # the inputs that hold an operator's weights
    "Conv": (1,),
    "ConvTranspose": (1,),
    "Gemm": (1, 0),
    "MatMul": (1, 0),
    "LSTM": (1, 2),
    "GRU": (1, 2),
    "RNN": (1, 2),
    "Gather": (0,),
    "Attention": (1,),
}
DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"}
QUANTIZED = {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearConv",
    "QLinearMatMul", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "QAttention", "QGemm", "MatMulIntegerToFloat",
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """A node with float weights: its name in the prepared model, its operator, the bytes of its weights.

    `nested` tells that it lies inside the branch or body of an If, Loop or Scan.
    """

    name: str
    operator: str
    weight_bytes: int
    nested: bool = False


def layers(model: Artifact) -> list[Layer]:
    """The nodes that quantisation can change, in graph order, by the names that `exclude` and `only` know."""
    return find_layers(prepare(model))


def prepare(model: Artifact) -> Any:
    """A ModelProto ready to be quantised: opset >= 13, constants folded, shapes inferred, every node named once.

    Raises StepError for what cannot be quantised: more than 2 GB, operators that ONNX Runtime does not have, and
    weights that are float16, NaN or infinite.
    """
    check_size(model)
    proto = _normalized(to_proto(model))
    _check_operators(proto)
    _check_types(proto)
    proto = _preprocessed(proto)
    _name_nodes(proto)
    _check_weights(proto)
    return proto


def check_size(model: Artifact) -> None:
    """Raises StepError for a model that does not fit into one protobuf message."""
    if model.size_bytes > LARGEST_BYTES:
        have, most = f"{model.size_bytes / 1e9:.2f} GB", f"{LARGEST_BYTES / 1e9:.2f} GB"
        raise StepError(f"the model is {have} large; models of more than {most} cannot be quantised")


def check_float(proto: Any) -> None:
    """Raises StepError for a model that is quantised already."""
    kinds = sorted({node.op_type for graph in graphs(proto.graph) for node in graph.node} & QUANTIZED)
    if kinds:
        raise StepError(f"the model is quantised already (it has {', '.join(kinds)})")


def find_layers(proto: Any) -> list[Layer]:
    """The layers of a prepared ModelProto, in graph order, nested graphs after the node that holds them."""
    return [
        Layer(node.name, node.op_type, sum(_bytes(tensor) for tensor in tensors), graph is not proto.graph)
        for graph, node, tensors in _weighted(proto.graph)
    ]


def excluded(proto: Any, patterns: Sequence[str]) -> list[str]:
    """The names of all nodes that match a pattern; raises StepError for a pattern that matches none."""
    names = node_names(proto)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            known = [layer.name for layer in find_layers(proto)]
            raise StepError(f"exclude: no node is named {pattern!r}; {did_you_mean(pattern, known)}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def chosen(proto: Any, only: Sequence[str] | None) -> list[str]:
    """`only` as the tools want it (none: all nodes); raises StepError for names that no node has."""
    if only is None:
        return []
    known = set(node_names(proto))
    for name in only:
        if name not in known:
            raise StepError(
                f"no node is named {name!r}; {did_you_mean(name, [one.name for one in find_layers(proto)])}"
            )
    if not only:
        raise StepError("no node is to be quantised")
    return list(only)


def node_names(proto: Any) -> list[str]:
    return [node.name for graph in graphs(proto.graph) for node in graph.node]


def run_tool(proto: Any, tool: Callable[[str, str], None]) -> Any:
    """The ModelProto that a tool of ONNX Runtime's writes for `tool(path before, path after)`; raises StepError."""
    import onnx

    with tempfile.TemporaryDirectory(prefix="rayopt-") as folder, quiet():
        before, after = Path(folder) / "before.onnx", Path(folder) / MODEL
        onnx.save(proto, str(before))
        try:
            tool(str(before), str(after))
        except Exception as error:
            raise StepError(f"ONNX Runtime cannot quantise the model: {type(error).__name__}: {error}") from error
        return onnx.load(str(after))


def finished(before: Sequence[Layer], proto: Any, notes: Mapping[str, Any] | None = None) -> Artifact:
    """The artifact, with notes that count by operator the layers that were quantised and those that were left.

    Raises StepError when no layer was quantised.
    """
    still = {layer.name for layer in find_layers(proto)}
    done = Counter(layer.operator for layer in before if layer.name not in still)
    left = Counter(layer.operator for layer in before if layer.name in still)
    if not done:
        kinds = sorted({node.op_type for graph in graphs(proto.graph) for node in graph.node})
        raise StepError(f"no node was quantised (operators: {', '.join(kinds[:8])})")
    counted = {"quantized": dict(sorted(done.items())), "left": dict(sorted(left.items()))}
    return from_proto(proto, {"quantized_nodes_count": done.total(), **counted, **(notes or {})})


def graphs(graph: Any) -> Iterator[Any]:
    """A graph and all graphs nested in it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                yield from graphs(inner)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the tools' advice to developers out of the user's terminal; errors are raised."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(level)


def _normalized(proto: Any) -> Any:
    """Initialisers are no inputs that a caller may override, and the opset is one that has per-channel scales."""
    from onnx import version_converter

    constants = {tensor.name for tensor in proto.graph.initializer}
    kept = [value for value in proto.graph.input if value.name not in constants]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    opset = next((one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")), 13)
    if opset < 13:
        try:
            proto = version_converter.convert_version(proto, 13)
        except Exception as error:
            raise StepError(f"the model of opset {opset} cannot be converted to opset 13: {error}") from error
    proto.ir_version = max(proto.ir_version, 8)
    return proto


def _check_operators(proto: Any) -> None:
    own = {(function.domain, function.name) for function in proto.functions}
    for graph in graphs(proto.graph):
        for node in graph.node:
            if node.domain not in DOMAINS and (node.domain, node.op_type) not in own:
                raise StepError(
                    f"the operator {node.op_type} of domain {node.domain!r} is not one of ONNX Runtime's: "
                    "models with custom operators cannot be quantised"
                )


def _check_types(proto: Any) -> None:
    for _, node, tensors in _weighted(proto.graph):
        if any(tensor.data_type != tensor.FLOAT for tensor in tensors):
            raise StepError(f"the weights of {node.name!r} are float16: begin with the float32 model")


def _preprocessed(proto: Any) -> Any:
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="rayopt-") as folder, quiet():
        path, after = Path(folder) / "given.onnx", Path(folder) / "prepared.onnx"
        onnx.save(proto, str(path))
        try:
            quant_pre_process(str(path), str(after), skip_symbolic_shape=True)
        except Exception as error:
            raise StepError(f"ONNX Runtime cannot quantise the model: {type(error).__name__}: {error}") from error
        return onnx.load(str(after))


def _name_nodes(proto: Any) -> None:
    taken: set[str] = set()
    for graph in graphs(proto.graph):
        for index, node in enumerate(graph.node):
            name = base = node.name or f"{node.op_type}_{index}"
            count = 1
            while name in taken:
                name, count = f"{base}_{count}", count + 1
            node.name = name
            taken.add(name)


def _check_weights(proto: Any) -> None:
    """Raises StepError for NaN in any constant of a layer and for infinite weights; a bias may be a mask of -inf."""
    from onnx import numpy_helper

    for graph in graphs(proto.graph):
        constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            for index, name in enumerate(node.input if node.op_type in WEIGHTS else ()):
                if name not in constants or constants[name].data_type not in (1, 10, 11):
                    continue
                values = numpy_helper.to_array(constants[name])
                if np.isnan(values).any():
                    raise StepError(f"the tensor {name!r} of node {node.name!r} holds NaN")
                if index in WEIGHTS[node.op_type] and not np.isfinite(values).all():
                    raise StepError(f"the tensor {name!r} of node {node.name!r} holds infinite values")


def _weighted(graph: Any, outer: Mapping[str, Any] | None = None) -> Iterator[tuple[Any, Any, list[Any]]]:
    """All (graph, node, weight tensors) of nodes whose weights are float constants of at least two dimensions."""
    constants = {**(outer or {}), **{tensor.name: tensor for tensor in graph.initializer}}
    for node in graph.node:
        found = [constants[node.input[i]] for i in WEIGHTS.get(node.op_type, ()) if i < len(node.input)
                 and node.input[i] in constants]  # fmt: skip
        tensors = [one for one in found if one.data_type in (one.FLOAT, one.FLOAT16) and len(one.dims) > 1]
        if tensors:
            yield graph, node, tensors
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                yield from _weighted(inner, constants)


def _bytes(tensor: Any) -> int:
    return int(np.prod(tensor.dims, dtype=np.int64)) * (2 if tensor.data_type == tensor.FLOAT16 else 4)
