"""Nodes of the same operator, attributes and inputs become one: the first, where it can be seen from the others.

Numbers are the same where their bytes are (0.0 is not -0.0), outputs where the same are left out.

Random operators, foreign ones and those with bodies are left alone, and of two outputs each keeps its own node.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite

opset, dims = 0, False
needs = ()
FLOATS = (ir.AttributeType.FLOAT, ir.AttributeType.FLOATS)
NEVER = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
    "Dropout",
}


def apply(model: ir.Model, limits: object) -> int:
    count = 0
    waiting: list[tuple[ir.Graph, dict[Any, ir.Node]]] = [(model.graph, {})]
    while waiting:
        graph, seen = waiting.pop()
        for node in tuple(graph):
            inner = facts.bodies(node)
            waiting.extend((body, {}) for body in inner)
            if inner or node.domain or node.op_type in NEVER:
                continue
            key = _key(node)
            kept = seen.setdefault(key, node) if key is not None else node
            if kept is not node and _merge(node, kept):
                count += 1
    return count


def _key(node: ir.Node) -> Any | None:
    attributes = []
    for name, one in sorted(node.attributes.items()):
        if one.is_ref() or one.type in (ir.AttributeType.SPARSE_TENSOR, ir.AttributeType.TENSORS):
            return None
        value: Any = one.value
        if one.type in FLOATS:
            value = np.asarray(value, np.float32).tobytes()
        elif one.type == ir.AttributeType.TENSOR:
            if value.dtype == ir.DataType.STRING or value.nbytes > 1 << 16:
                return None
            value = (value.dtype, tuple(value.shape), value.tobytes())
        attributes.append((name, one.type, value))
    key = (node.op_type, tuple(bool(value.name) for value in node.outputs), tuple(node.inputs), tuple(attributes))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _merge(node: ir.Node, kept: ir.Node) -> bool:
    if len(node.outputs) == 1:
        return rewrite.skip(node, kept.outputs[0])
    if any(value.is_graph_output() for value in node.outputs):
        return False
    for old, new in zip(node.outputs, kept.outputs, strict=True):
        rewrite.replace(old, new)
    rewrite.remove(node)
    return True
