"""Large models: tools get the skeleton, in which every large initialiser is an input of its type and shape.

What they rewrite then cannot depend on the weights: it is proven on a twin whose large axes are a few elements long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rayopt.errors import StepError
from rayopt.graph.proof import Reference
from rayopt.graph.structure import graphs_of

LARGE_BYTES = 256 << 20
KEPT_BYTES = 1 << 10
LARGE_AXIS = 16
FIRST_SIZE = 6


@dataclass(frozen=True)
class Skeleton:
    """`model` without large weights; `held` has them by name, as the file does: inside, or as references."""

    model: Any
    held: Mapping[str, Any]


def skeleton(opened: Any) -> Skeleton:
    """Takes the large initialisers of the outermost graph out of a model (in place)."""
    import onnx

    held, kept = {}, []
    for tensor in opened.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.ByteSize() > KEPT_BYTES:
            held[tensor.name] = tensor
        else:
            kept.append(tensor)
    model = onnx.ModelProto()
    model.ir_version = opened.ir_version
    model.opset_import.extend(opened.opset_import)
    model.functions.extend(opened.functions)
    graph = model.graph
    graph.name = opened.graph.name
    graph.node.extend(opened.graph.node)
    graph.initializer.extend(kept)
    graph.input.extend(opened.graph.input)
    graph.output.extend(opened.graph.output)
    for name, tensor in held.items():
        graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
    if any(one.data_location == 1 for inner in graphs_of(model) for node in inner.node for one in _tensors(node)):
        raise StepError("external data inside nodes is not taken apart")
    return Skeleton(model, held)


def whole_again(model: Any, held: Mapping[str, Any]) -> Any:
    """A copy of what a tool made of a skeleton, with the weights that it still uses."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    used = {name for graph in graphs_of(copy) for node in graph.node for name in node.input}
    used |= {one.name for one in copy.graph.output}
    inputs = [one for one in model.graph.input if one.name not in held]
    del copy.graph.input[:]
    copy.graph.input.extend(inputs)
    copy.graph.initializer.extend(tensor for name, tensor in held.items() if name in used)
    return copy


@dataclass(frozen=True)
class Twin:
    """A model whose large axes are short; `sizes` maps the axes of one to those of the other."""

    sizes: Mapping[int, int]
    reference: Reference

    def check(self, model: Any) -> float:
        """The largest difference of a rewritten skeleton on the twin's axes; raises StepError."""
        return self.reference.check(shrunk(model, self.sizes))


def twin(bones: Skeleton, seed: int) -> Twin:
    """The twin of a skeleton with outputs to compare with; raises Refused where it does not run with short axes."""
    shapes = [tuple(tensor.dims) for tensor in bones.held.values()]
    shapes += [_dims(one) for one in bones.model.graph.input]
    large = sorted({dim for shape in shapes for dim in shape if dim > LARGE_AXIS})
    sizes = {dim: FIRST_SIZE + index for index, dim in enumerate(large)}
    small = shrunk(bones.model, sizes)
    return Twin(sizes, Reference(small, {}, seed, frozenset(bones.held)))


def shrunk(model: Any, sizes: Mapping[int, int]) -> Any:
    """A copy of a skeleton with other sizes of large axes; raises StepError where a small weight has one."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for one in copy.graph.input:
        for dim in one.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value in sizes:
                dim.dim_value = sizes[dim.dim_value]
    for tensor in copy.graph.initializer:
        if any(dim in sizes for dim in tensor.dims):
            raise StepError("a small weight has a large axis")
    for one in copy.graph.output:
        if one.type.HasField("tensor_type"):
            for dim in one.type.tensor_type.shape.dim:
                dim.Clear()
    del copy.graph.value_info[:]
    return copy


def _dims(info: Any) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim if dim.HasField("dim_value"))


def _tensors(node: Any) -> Sequence[Any]:
    return [one.t for one in node.attribute if one.HasField("t")]
