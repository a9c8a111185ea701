"""Whole numbers times 0 are 0: such a Mul becomes a constant, where its sizes are known.

Exporters tie inputs that nothing uses to an output so.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite

opset, dims = 0, True
needs = ("Mul",)
WHOLE = {ir.DataType.INT64, ir.DataType.INT32}


def apply(model: ir.Model, limits: object) -> int:
    return sum(_apply(node) for node in facts.nodes(model) if facts.is_op(node, "Mul"))


def _apply(node: ir.Node) -> bool:
    result = node.outputs[0]
    kind, sizes = facts.dtype(result), facts.static(result)
    if kind not in WHOLE or sizes is None or np.prod(sizes, dtype=np.int64) > 64 or result.is_graph_output():
        return False
    if all(facts.scalar(value) != 0 for value in node.inputs):
        return False
    return rewrite.skip(node, rewrite.store(node, np.zeros(sizes, kind.numpy()), "zero"))
