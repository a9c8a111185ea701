"""Shape -> Gather -> Concat chains become constants, and what a Reshape is told becomes numbers with 0 and -1.

A number replaces what is the same for every input; a Reshape's 0 or -1 what stays or is left over. Sizes are those that
`inference` proves from the inputs. Reshapes with `allowzero` are left alone.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite, symbolic

opset, dims = 5, True
needs = ("Shape", "Size", "Reshape", "Concat")
INTEGERS = {ir.DataType.INT64: np.int64, ir.DataType.INT32: np.int32}


def apply(model: ir.Model, limits: object) -> int:
    count = 0
    for node in facts.nodes(model):
        if not facts.alive(node) or node.domain:
            continue
        if node.op_type in symbolic.RULES and node.op_type != "Reshape":
            count += _constant(node)
        elif node.op_type == "Reshape":
            count += _reshape(node) or _constant(node)
        elif node.op_type == "Size":
            count += _size(node)
    return count


def _constant(node: ir.Node) -> bool:
    kind = facts.dtype(node.outputs[0])
    rank = facts.rank(node.outputs[0])
    if kind not in INTEGERS or rank not in (0, 1) or node.outputs[0].is_graph_output():
        return False
    found = symbolic.elements(node.outputs[0])
    if found is None or any(one is None or one[1] for one in found) or (rank == 0 and len(found) != 1):
        return False
    numbers = np.array([one[0] for one in found if one is not None], INTEGERS[kind])
    return rewrite.skip(node, rewrite.store(node, numbers.reshape(()) if rank == 0 else numbers, "shape"))


def _size(node: ir.Node) -> bool:
    sizes = facts.static(node.inputs[0])
    if sizes is None or node.outputs[0].is_graph_output():
        return False
    return rewrite.skip(node, rewrite.store(node, np.array(int(np.prod(sizes, dtype=np.int64)), np.int64), "shape"))


def _reshape(node: ir.Node) -> bool:
    """Whether the told shape became a better constant; notes the dims of the result in any case."""
    if facts.attribute(node, "allowzero", 0) or len(node.inputs) < 2:
        return False
    source = facts.dims(node.inputs[0])
    told = symbolic.elements(node.inputs[1])
    if told is None:
        return False
    wanted = symbolic.reshaped(source, told)
    if wanted is None:
        return False
    node.outputs[0].meta[facts.DIMS] = tuple(wanted)
    numbers = symbolic.target(source, wanted, symbolic.never_empty(node))
    if numbers is None or numbers == facts.ints(node.inputs[1]):
        return False
    maker = node.inputs[1].producer() if node.inputs[1] is not None else None
    node.replace_input_with(1, rewrite.store_ints(node, numbers))
    if maker is not None:
        rewrite.remove(maker)
    return True
