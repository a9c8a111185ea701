"""Initializers of the same type, shape and bytes become one; weights that were tied stay tied.

Defaults of inputs and initializers that are outputs are left alone.
"""

from __future__ import annotations

import hashlib

import onnx_ir as ir

from rayopt.graph.passes import facts

opset, dims = 0, False
needs = ()


def apply(model: ir.Model, limits: object) -> int:
    first: dict[tuple[object, ...], ir.Value] = {}
    count = 0
    by_form: dict[tuple[object, ...], list[ir.Value]] = {}
    for graph in facts.graphs(model):
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is None or value.is_graph_input() or value.is_graph_output():
                continue
            if graph is model.graph or tensor.nbytes <= 1 << 20:
                by_form.setdefault((tensor.dtype, tuple(tensor.shape)), []).append(value)
    for form, values in by_form.items():
        if len(values) < 2 or form[0] == ir.DataType.STRING:
            continue
        for value in values:
            tensor = value.const_value
            key = (*form, hashlib.sha256(tensor.tobytes()).digest())  # type: ignore[union-attr]
            kept = first.setdefault(key, value)
            if kept is value or kept.graph is not model.graph:  # what a body stores cannot be seen outside of it
                first[key] = value if kept.graph is not model.graph else kept
                continue
            value.replace_all_uses_with(kept)
            if value.graph is not None:
                del value.graph.initializers[str(value.name)]
            count += 1
    return count
