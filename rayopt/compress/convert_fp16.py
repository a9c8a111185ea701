"""float16: weights alone (computed with in float32), or weights and arithmetic; inputs and outputs stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rayopt.compress.calibrate import batches, find_ranges
from rayopt.compress.onnx_layers import excluded, graphs, prepare, quiet
from rayopt.compress.settings import HalfSettings, StaticSettings
from rayopt.errors import StepError
from rayopt.models.onnx_model import from_proto, session
from rayopt.records import Artifact

DEFAULT = HalfSettings()
LARGEST = 65504.0  # the largest finite float16
LEAST_COUNT = 32  # smaller tensors cost more as a node than they save
KEEPS_CONSTANTS = {"Resize", "Upsample", "QuantizeLinear", "DequantizeLinear", "MatMulNBits", "Range", "TopK"}


def convert_fp16(model: Artifact, rows: Any, settings: HalfSettings = DEFAULT) -> Artifact:
    """The model in float16; nodes with constants or activations on `rows` beyond float16's range stay in float32.

    Raises StepError when no weight was converted, and when the result is not finite on `rows` where the model was.
    """
    proto = prepare(model)
    left = set(excluded(proto, settings.exclude))
    if settings.weights_only:
        return _with_half_weights(proto, left)
    left |= _beyond(proto, rows)
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    with quiet():
        try:
            half = convert_float_to_float16(
                type(proto).FromString(proto.SerializeToString()), keep_io_types=True,
                op_block_list=DEFAULT_OP_BLOCK_LIST, node_block_list=sorted(left),
            )  # fmt: skip
        except Exception as error:
            raise StepError(f"the model cannot be converted to float16: {type(error).__name__}: {error}") from error
    _sort(half.graph)
    _join_float32(half.graph)
    artifact = from_proto(half)
    count = sum(tensor.data_type == tensor.FLOAT16 for tensor in half.graph.initializer)
    if count == 0:
        raise StepError(f"no weight was converted to float16; {len(left)} nodes are excluded or exceed its range")
    _check_finite(from_proto(proto), artifact, rows)
    notes = {"half_tensors_count": count, "float32_nodes_count": len(left)}
    return Artifact("onnx", artifact.files, notes)


def _with_half_weights(proto: Any, left: set[str]) -> Artifact:
    """float16 initialisers, each with a Cast that ONNX Runtime folds when it loads the file."""
    from onnx import TensorProto, helper, numpy_helper

    converted, beyond = 0, []
    for graph in graphs(proto.graph):
        kept = {
            name
            for inner in graphs(graph)
            for node in inner.node
            if node.op_type in KEEPS_CONSTANTS or node.name in left
            for name in node.input
        }
        kept |= {value.name for value in graph.output}
        casts = []
        for tensor in graph.initializer:
            if tensor.data_type != TensorProto.FLOAT or tensor.name in kept or np.prod(tensor.dims) < LEAST_COUNT:
                continue
            values = numpy_helper.to_array(tensor)
            if not np.abs(values).max() <= LARGEST:
                beyond.append(tensor.name)
                continue
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"{name}_cast", to=TensorProto.FLOAT))
        nodes = [*casts, *(type(node).FromString(node.SerializeToString()) for node in graph.node)]
        del graph.node[:]
        graph.node.extend(nodes)
        converted += len(casts)
    if converted == 0:
        raise StepError("no weight was converted to float16" + (f": {beyond[0]!r} exceeds its range" if beyond else ""))
    return from_proto(proto, {"half_tensors_count": converted, "beyond_range": beyond})


def _beyond(proto: Any, rows: Any) -> set[str]:
    """The nodes that read or write a tensor with finite values beyond float16's range."""
    from onnx import numpy_helper

    kinds = {node.op_type for node in proto.graph.node}
    ranges = find_ranges(proto, rows, kinds, StaticSettings())
    large = {name for name, span in ranges.items() if np.abs(span).max() > LARGEST}
    for tensor in proto.graph.initializer:
        if tensor.data_type == tensor.FLOAT and np.prod(tensor.dims) > 0:
            values = np.abs(numpy_helper.to_array(tensor))
            if (np.isfinite(values) & (values > LARGEST)).any():
                large.add(tensor.name)
    return {node.name for node in proto.graph.node if large & {*node.input, *node.output}}


def _check_finite(before: Artifact, after: Artifact, rows: Any) -> None:
    left, right = session(before), session(after)
    names = [one.name for one in left.get_outputs()]
    for feeds in batches(left, rows):
        for name, wanted, got in zip(names, left.run(None, feeds), right.run(None, feeds), strict=True):
            if _finite(wanted) and not _finite(got):
                raise StepError(f"float16 is too narrow: the output {name!r} is not finite on the calibration rows")


def _finite(value: Any) -> bool:
    return not isinstance(value, np.ndarray) or value.dtype.kind != "f" or bool(np.isfinite(value).all())


def _sort(graph: Any) -> None:
    """Brings the nodes into an order in which each comes after what it reads (the tool appends its casts)."""
    made_by = {name: node for node in graph.node for name in node.output if name}
    done: set[str] = set()
    ordered: list[Any] = []
    for last in graph.node:
        stack = [last]
        while stack:
            node = stack[-1]
            if node.name in done:
                stack.pop()
                continue
            waits = [made_by[name] for name in _reads(node) if name in made_by and made_by[name].name not in done]
            if waits:
                stack += waits
            else:
                done.add(node.name)
                ordered.append(stack.pop())
    copies = [type(node).FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)


def _join_float32(graph: Any) -> None:
    """Takes the way through float16 out from between two nodes that stay in float32; the tool casts there and back."""
    made_by = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        before = made_by.get(node.input[0]) if _casts(node, 1) else None
        if before is not None and _casts(before, 10):
            node.op_type, node.input[0] = "Identity", before.input[0]
            del node.attribute[:]
    for node in [one for one in graph.node if one.op_type == "Cast"][::-1]:  # readers before what they read
        used = {name for inner in graphs(graph) for one in inner.node for name in one.input}
        if node.output[0] not in used | {value.name for value in graph.output}:
            graph.node.remove(node)


def _casts(node: Any, to: int) -> bool:
    return node.op_type == "Cast" and any(one.name == "to" and one.i == to for one in node.attribute)


def _reads(node: Any) -> Iterator[str]:
    """What a node reads, graphs nested in it included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
            for one in inner.node:
                yield from _reads(one)
