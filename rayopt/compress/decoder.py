"""The nodes that decode packed weights inside an ONNX graph, and the proof that ONNX Runtime decodes what was meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rayopt.compress import packing
from rayopt.compress.weights import Codes
from rayopt.errors import StepError
from rayopt.models.onnx_model import from_proto, session

Array = np.ndarray[Any, Any]
Packed = tuple[str, Codes, Any]


class Decoder:
    """Takes weights out of a graph and writes the nodes that make them from packed bytes, under their old names.

    codes: name of the initializer, its codes, and the type that it has.
    """

    def __init__(self, proto: Any, codes: Sequence[Packed]) -> None:
        self._proto, self._codes = proto, codes
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []
        self._prefix = _unused_prefix(proto.graph)
        self._known: dict[tuple[Any, ...], str] = {}

    def write(self) -> None:
        graph = self._proto.graph
        groups: dict[tuple[int, bool], list[Packed]] = {}
        for packed in self._codes:
            groups.setdefault((packed[1].bits, packed[1].symmetric), []).append(packed)
        for (bits, symmetric), members in groups.items():
            self._group(bits, symmetric, members)
        gone = {name for name, _, _ in self._codes}
        for field in (graph.initializer, graph.input):
            kept = [one for one in field if one.name not in gone]
            del field[:]
            field.extend(kept)
        nodes = list(graph.node)
        del graph.node[:]
        graph.node.extend([*self._nodes, *nodes])
        graph.initializer.extend(self._initializers)
        self._proto.ir_version = max(self._proto.ir_version, 4)  # before, every initializer had to be an input

    def made(self, node: Any) -> bool:
        """Whether a node of a graph is one that decodes weights."""
        return any(name.startswith(self._prefix) for name in node.input)

    def _group(self, bits: int, symmetric: bool, members: Sequence[Packed]) -> None:
        flat = self._unpacked(np.concatenate([codes.values.reshape(-1) for _, codes, _ in members]), bits)
        flat = self._node("Cast", [flat], to=1)
        if symmetric:
            flat = self._node("Sub", [flat, self._constant(np.float32(2 ** (bits - 1)))])
        sizes = [codes.values.size for _, codes, _ in members]
        rest = packing.padded(sum(sizes)) - sum(sizes)
        sizes += [rest] if rest else []
        parts = self._nodes_outputs("Split", [flat, self._constant(np.array(sizes))], len(sizes), axis=0)
        for (name, codes, kind), part in zip(members, parts, strict=False):  # the last part may be padding
            self._tensor(name, codes, kind, part)

    def _unpacked(self, codes: Array, bits: int) -> str:
        """The value that holds all codes of a group, one after another."""
        whole, offset = "", 0
        for width, plane in zip(packing.plane_widths(bits), packing.pack(codes, bits), strict=True):
            if width == 8:
                pieces = self._constant(plane)
            else:
                shifted = self._node(
                    "BitShift",
                    [self._constant(plane[:, None]), self._constant(packing.shifts(width))],
                    direction="RIGHT",
                )
                pieces = self._node("Mod", [shifted, self._constant(np.uint8(2**width))])
                pieces = self._node("Reshape", [pieces, self._constant(np.array([-1]))])
            kind: Any = np.uint8
            if bits > 8:
                kind, pieces = np.int32, self._node("Cast", [pieces], to=6)
            if offset:
                pieces = self._node("Mul", [pieces, self._constant(kind(2**offset))])
            whole = self._node("Add", [whole, pieces]) if whole else pieces
            offset += width
        return whole

    def _tensor(self, name: str, codes: Codes, kind: Any, part: str) -> None:
        from onnx import helper

        value = self._node("Reshape", [part, self._constant(np.array(codes.values.shape))])
        if not codes.symmetric:
            value = self._node("Sub", [value, self._constant(codes.zero)])
        value = self._node("Mul", [value, self._constant(codes.scale)])
        if kind == np.int8:
            value = self._node("Round", [value])
        if kind != np.float32:
            self._node("Cast", [value], to=helper.np_dtype_to_tensor_dtype(kind))
        self._nodes[-1].output[:] = [name]

    def _node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        return self._nodes_outputs(kind, inputs, 1, **attributes)[0]

    def _nodes_outputs(self, kind: str, inputs: list[str], count: int, **attributes: Any) -> list[str]:
        from onnx import helper

        outputs = [f"{self._prefix}{len(self._nodes)}" + (f".{index}" if count > 1 else "") for index in range(count)]
        self._nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs

    def _constant(self, value: Any) -> str:
        """The name of an initializer with that content; small ones are there once."""
        from onnx import numpy_helper

        array = np.asarray(value)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = f"{self._prefix}c{len(self._known)}"
            self._initializers.append(numpy_helper.from_array(array, self._known[key]))
        return self._known[key]


def check_decoded(proto: Any, wanted: Mapping[str, Array]) -> None:
    """Raises StepError unless ONNX Runtime decodes exactly the weights that were meant."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(proto)
    graph = made.graph
    end = next(index for index, node in reversed(list(enumerate(graph.node))) if set(node.output) & set(wanted)) + 1
    del graph.node[end:]
    used = {name for node in graph.node for name in node.input}
    kept = [one for one in graph.initializer if one.name in used]
    for field in (graph.input, graph.output, graph.value_info, graph.initializer):
        del field[:]
    graph.initializer.extend(kept)
    for name, tensor in wanted.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(tensor.dtype)
        graph.output.append(onnx.helper.make_tensor_value_info(name, kind, tensor.shape))
    running = session(from_proto(made), optimize=False)
    for (name, tensor), got in zip(wanted.items(), running.run(list(wanted), {}), strict=True):
        if not np.array_equal(tensor, got):
            raise StepError(f"ONNX Runtime decodes other weights than were packed: {name}")


def _unused_prefix(graph: Any) -> str:
    """A beginning that no name of the graph has."""
    prefix, names = "w.", set(_names(graph))
    while any(name.startswith(prefix) for name in names):
        prefix = "w" + prefix
    return prefix


def _names(graph: Any) -> Iterator[str]:
    yield from (one.name for one in (*graph.initializer, *graph.input))
    for node in graph.node:
        yield from (*node.input, *node.output)
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _names(inner)
