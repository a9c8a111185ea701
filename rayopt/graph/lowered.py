"""What the runtime makes of a model at its own full level: two models of which it makes the same graph are as fast.

A digest of operators, attributes and how they are connected, with the types and sizes of weights but not their values.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rayopt.errors import StepError
from rayopt.graph.sessions import open_session
from rayopt.graph.structure import nested

MAX_BYTES = 64 << 20  # what is larger takes longer to write than to time
INTEGERS = (2, 3, 4, 5, 6, 7, 9, 12, 13)  # types of TensorProto whose values decide shapes
SMALL = 64


def makes_same(original: bytes | str, candidate: bytes) -> bool:
    """Whether the runtime runs the same graph for both, as far as that can be told quickly."""
    if len(candidate) > MAX_BYTES:
        return False
    try:
        return digest(original) == digest(candidate)
    except (StepError, OSError):
        return False


def digest(model: bytes | str) -> str:
    """The same for models that the runtime makes equal graphs of, whatever values are called; raises Refused."""
    import onnx

    with tempfile.TemporaryDirectory(prefix="rayopt-") as folder:
        path = Path(folder) / "lowered.onnx"
        open_session(model, optimize=True, written_to=path)
        graph = onnx.load(str(path), load_external_data=False).graph
    return _graph(graph, {})


def _graph(graph: Any, outer: Mapping[str, str]) -> str:
    known = dict(outer)
    known.update((one.name, _hash("input", str(index))) for index, one in enumerate(graph.input))
    known.update((one.name, _tensor(one)) for one in graph.initializer)
    nodes = [_node(node, known) for node in graph.node]
    return _hash(*sorted(nodes), *(known.get(one.name, one.name) for one in graph.output))


def _node(node: Any, known: dict[str, str]) -> str:
    told = [_attribute(one) for one in sorted(node.attribute, key=lambda one: one.name)]
    inner = [_graph(one, known) for one in nested(node)]
    given = [known.get(name, name) for name in node.input]
    found = _hash(node.domain, node.op_type, *told, *inner, *given)
    known.update((name, _hash(found, str(place))) for place, name in enumerate(node.output))
    return found


def _attribute(one: Any) -> str:
    if one.HasField("t"):
        return f"{one.name} {_tensor(one.t)}"
    if one.HasField("g") or one.graphs:
        return str(one.name)
    return str(one.SerializeToString(deterministic=True).hex())


def _tensor(one: Any) -> str:
    from onnx import numpy_helper

    told = f"{one.data_type} {list(one.dims)}"
    size = 1
    for dim in one.dims:
        size *= dim
    if one.data_type in INTEGERS and size <= SMALL and one.data_location != 1:
        told += f" {numpy_helper.to_array(one).tolist()}"
    return _hash("weight", told)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
