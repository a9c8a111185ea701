"""Computes once what depends on constants alone, also inside bodies, by ONNX Runtime's own kernels.

Random operators, foreign ones, those with bodies and those that give sequences or strings are never folded. Sizes are
estimated before anything is computed; what is stored may add `fold_bytes` to the file beyond what it frees.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from rayopt.graph.passes import facts, rewrite

opset, dims = 0, False
needs = ()
Array = np.ndarray[Any, Any]
NEVER = {
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout",
    "Constant", "Identity", "If", "Loop", "Scan", "SequenceMap", "Optional", "QuantizeLinear", "DequantizeLinear",
}  # fmt: skip
NODE_BYTES = 60  # about what a node takes in a file


def apply(model: ir.Model, limits: Any) -> int:
    known: dict[ir.Value, Array] = {}
    held = 0
    folded: list[ir.Node] = []
    for graph in facts.graphs(model):
        for node in graph:
            if not _may(node, known):
                continue
            array = _computed(node, known, facts.opset(model), limits.memory_bytes - held)
            if array is not None:
                known[node.outputs[0]] = array
                held += array.nbytes
                folded.append(node)
    return _stored(folded, known, limits.fold_bytes) if folded else 0


def _may(node: ir.Node, known: dict[ir.Value, Array]) -> bool:
    if node.domain or node.op_type in NEVER or len(node.outputs) != 1 or facts.bodies(node):
        return False
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        return False
    values = [value for value in node.inputs if value is not None]
    return bool(values) and all(value in known or facts.is_constant(value) for value in values)


def _computed(node: ir.Node, known: dict[ir.Value, Array], version: int, room_bytes: int) -> Array | None:
    fed = {}
    for place, value in enumerate(node.inputs):
        if value is not None:
            array = known.get(value)
            array = facts.constant(value) if array is None else array
            if array is None or array.dtype.kind not in "fiub" or array.nbytes > room_bytes:
                return None
            fed[f"i{place}"] = array
    return _quick(node, list(fed.values())) if node.op_type in QUICK else run_alone(node, fed, version, room_bytes)


QUICK = {"Transpose", "Unsqueeze", "Squeeze"}


def _quick(node: ir.Node, fed: list[Array]) -> Array | None:
    """The commonest layouts without a session; None where the runtime takes no such axes."""
    try:
        return _laid_out(node, fed)
    except ValueError:
        return None


def _laid_out(node: ir.Node, fed: list[Array]) -> Array | None:
    array = fed[0]
    if node.op_type == "Transpose":
        return np.array(array.transpose(facts.attribute(node, "perm")), order="C")
    axes = facts.attribute(node, "axes") or ([int(one) for one in fed[1].reshape(-1)] if len(fed) > 1 else None)
    if node.op_type == "Unsqueeze":
        return np.expand_dims(array, tuple(axes or ()))
    if axes == []:
        return None  # the runtime squeezes all axes then, the standard says none
    return np.squeeze(array, None if axes is None else tuple(axes))


def run_alone(node: ir.Node, fed: dict[str, Array], version: int, room_bytes: int) -> Array | None:
    """What one node gives for arrays, or None: it does not run, or its result is larger than there is room for."""
    import onnxruntime

    proto = onnx.NodeProto(op_type=node.op_type, output=["out"])
    proto.input.extend([f"i{place}" if value is not None else "" for place, value in enumerate(node.inputs)])
    proto.attribute.extend(ir.to_proto(one) for one in node.attributes.values())
    graph = onnx.helper.make_graph([proto], "one", [], [onnx.ValueInfoProto(name="out")])
    for name, array in fed.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        if array.nbytes <= 1024:
            graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)], ir_version=8)
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        wanted = model.graph.output[0].type.tensor_type
        if _bytes(wanted) > room_bytes:
            return None
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        needed = {one.name for one in session.get_inputs()}
        found = session.run(None, {name: array for name, array in fed.items() if name in needed})[0]
    except Exception:  # noqa: BLE001  a node that does not run by itself stays as it is
        return None
    return found if _is_of(found, wanted.elem_type) else None


def _is_of(found: Any, kind: int) -> bool:
    """Whether a result is an array of a type. The runtime gives those that numpy does not know as whole numbers."""
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiub" or not kind:
        return False
    return bool(found.dtype == onnx.helper.tensor_dtype_to_np_dtype(kind))


def _bytes(kind: Any) -> int:
    """The size that a result will have; far too large where it cannot be told."""
    if not kind.HasField("shape") or not all(one.HasField("dim_value") for one in kind.shape.dim):
        return 1 << 62
    count = 1
    for one in kind.shape.dim:
        count *= one.dim_value
    return count * 8


def _stored(folded: list[ir.Node], known: dict[ir.Value, Array], budget: int) -> int:
    """Stores what is used outside of the folded nodes, all of it or else the small ones."""
    inner = set(folded)
    edge = [node for node in folded if any(use.node not in inner for use in node.outputs[0].uses())]
    edge = [node for node in edge if not node.outputs[0].is_graph_output()]
    if _growth(edge, inner, known) > budget:
        edge = [node for node in edge if known[node.outputs[0]].nbytes <= NODE_BYTES]
    return sum(_store(node, known[node.outputs[0]]) for node in edge)


def _growth(edge: list[ir.Node], inner: set[ir.Node], known: dict[ir.Value, Array]) -> int:
    added = sum(known[node.outputs[0]].nbytes for node in edge) - NODE_BYTES * len(inner)
    sources = {value for node in inner for value in node.inputs if value is not None and facts.is_constant(value)}
    freed = [one for one in sources if all(use.node in inner for use in one.uses()) and not one.is_graph_output()]
    return added - sum(facts.tensor(one).nbytes for one in freed)  # type: ignore[union-attr]


def _store(node: ir.Node, array: Array) -> int:
    return int(rewrite.skip(node, rewrite.store(node, array, "folded")))
