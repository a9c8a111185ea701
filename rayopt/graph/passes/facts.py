"""What is known of a value: its constant, type, dims, uses. Nothing is taken from shapes that a file merely declares.

Dims are numbers or symbols; equal symbols are equal sizes. They come from `inference.infer`, which starts from the
graph's inputs alone, and are kept in the values' `meta`, which is never written to a file.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, Any]
Dim = int | str
UNKNOWN = itertools.count()  # numbers of sizes of which nothing is known: no two are the same
DIMS, DTYPE, ROOT, FLAT = "rayopt.dims", "rayopt.dtype", "rayopt.root", "rayopt.flat"


def opset(model: ir.Model) -> int:
    return model.opset_imports.get("", 1)


def nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Every node of the graph and of the bodies inside it, each list as it was when it was reached."""
    for graph in graphs(model):
        yield from tuple(graph)


def graphs(model: ir.Model) -> list[ir.Graph]:
    """The graph and all bodies inside it, outer ones first."""
    model.graph.meta[ROOT] = model.graph
    if model.graph.meta.get(FLAT):
        return [model.graph]
    found, waiting = [], [model.graph]
    while waiting:
        graph = waiting.pop()
        graph.meta[ROOT] = model.graph
        found.append(graph)
        waiting.extend(body for node in graph if node.attributes for body in bodies(node))
    model.graph.meta[FLAT] = len(found) == 1  # no pass makes bodies
    return found


def operators(model: ir.Model) -> set[str]:
    """The operators that occur, foreign ones too."""
    return {node.op_type for graph in graphs(model) for node in graph}


def bodies(node: ir.Node) -> list[ir.Graph]:
    found = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.value)
        elif attribute.type == ir.AttributeType.GRAPHS:
            found.extend(attribute.value)
    return found


def alive(node: ir.Node) -> bool:
    """Whether the node is still part of a graph: a pass may have removed it since it began."""
    return node.graph is not None


def is_op(node: ir.Node | None, *operators: str) -> bool:
    """Whether a node is one of ONNX's own operators."""
    return node is not None and node.domain == "" and node.op_type in operators and node.graph is not None


def made_by(value: ir.Value | None, *operators: str) -> ir.Node | None:
    """The node that produces a value where it is one of these operators and this is its first output."""
    node = value.producer() if value is not None else None
    return node if node is not None and is_op(node, *operators) and node.outputs[0] is value else None


def is_constant(value: ir.Value | None) -> bool:
    """Whether a value is fixed in the file: not an input that only has a default."""
    if value is None:
        return False
    if value.is_initializer():
        return value.const_value is not None and not value.is_graph_input()
    node = value.producer()
    return node is not None and is_op(node, "Constant") and tensor(value) is not None


def tensor(value: ir.Value | None) -> Any | None:
    """The stored tensor of a constant value, not read yet; None where it is no constant."""
    if value is None:
        return None
    if value.is_initializer():
        return None if value.is_graph_input() else value.const_value
    node = value.producer()
    if node is None or node.op_type != "Constant" or node.domain != "":
        return None
    return _attribute_tensor(node)


def _attribute_tensor(node: ir.Node) -> Any | None:
    for name, attribute in node.attributes.items():
        if attribute.is_ref():
            return None
        if name == "value":
            return attribute.value
        if name in ("value_int", "value_ints"):
            return ir.tensor(np.array(attribute.value, np.int64))
        if name in ("value_float", "value_floats"):
            return ir.tensor(np.array(attribute.value, np.float32))
    return None


def constant(value: ir.Value | None, at_most: int = 1 << 62) -> Array | None:
    """The array of a constant value of `at_most` elements; None otherwise, and for strings."""
    found = tensor(value)
    if found is None or found.size > at_most or found.dtype in (ir.DataType.STRING, ir.DataType.UNDEFINED):
        return None
    return np.asarray(found.numpy())


def scalar(value: ir.Value | None) -> float | None:
    """The one number of a constant of one element, whatever its rank."""
    found = constant(value, at_most=1)
    return None if found is None or found.size != 1 or found.dtype.kind in "bc" else float(found.reshape(())[()])


def ints(value: ir.Value | None) -> list[int] | None:
    """The numbers of a short constant list or scalar of integers."""
    found = constant(value, at_most=4096)
    return [int(one) for one in found.reshape(-1)] if found is not None and found.dtype.kind in "iu" else None


def dims(value: ir.Value | None) -> tuple[Dim, ...] | None:
    """The size of each axis, a number or a symbol; None where not even the rank is known."""
    if value is None:
        return None
    found = tensor(value)
    if found is not None:
        return tuple(int(size) for size in found.shape)
    return value.meta.get(DIMS)


def static(value: ir.Value | None) -> tuple[int, ...] | None:
    """The sizes where every one is a number."""
    found = dims(value)
    return None if found is None or any(isinstance(one, str) for one in found) else tuple(int(one) for one in found)


def rank(value: ir.Value | None) -> int | None:
    found = dims(value)
    return None if found is None else len(found)


def dtype(value: ir.Value | None) -> ir.DataType | None:
    if value is None:
        return None
    found = tensor(value)
    if found is not None:
        return ir.DataType(found.dtype)
    if value.is_graph_input() and value.dtype is not None:
        return value.dtype
    return value.meta.get(DTYPE)


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """The value of an attribute, lists as lists; the default where it is not given."""
    found = node.attributes.get(name)
    if found is None or found.is_ref():
        return default
    return list(found.value) if isinstance(found.value, tuple | list) else found.value


def given(node: ir.Node, place: int) -> ir.Value | None:
    """The input at a place; None where it is left out."""
    return node.inputs[place] if place < len(node.inputs) else None


def used_once(value: ir.Value) -> bool:
    """Whether one node alone takes the value, once, and it is no output of its graph."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def only_user(value: ir.Value, *operators: str) -> ir.Node | None:
    """The one node that uses a value, where it is one of these operators in the same graph."""
    if not used_once(value):
        return None
    node = next(iter(value.uses())).node
    return node if is_op(node, *operators) and node.graph is value.graph else None


def axes_of(node: ir.Node, default: list[int] | None = None) -> list[int] | None:
    """The axes of a reduction, Squeeze or Unsqueeze: an attribute or a constant second input."""
    if "axes" in node.attributes:
        return list(node.attributes["axes"].as_ints())
    second = given(node, 1)
    return default if second is None else ints(second)


def settle(model: ir.Model) -> None:
    """Declared shapes inside the graph may no longer be right: they go, except where a foreign operator needs them."""
    for graph in graphs(model):
        for node in graph:
            for value in node.outputs:
                if node.domain == "" and not value.is_graph_output():
                    value.shape = None
                    value.type = None
