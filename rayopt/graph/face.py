"""What callers see of a model: it is taken off before tools get it, and put back unchanged on what they give.

Names, types, shapes and order of inputs and outputs, metadata, and initialisers that callers may override: these are
plain inputs while tools work, so that nobody folds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rayopt.errors import StepError

KEPT_FIELDS = ("producer_name", "producer_version", "domain", "model_version", "doc_string")


@dataclass(frozen=True)
class Face:
    """The face of a model; `overridable` are the tensors of initialisers that are inputs too."""

    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    overridable: tuple[Any, ...]
    model: Any  # the original, for its metadata
    domains: frozenset[str]


def take_off(model: Any) -> tuple[Any, Face]:
    """A copy of the model, in which overridable initialisers are plain inputs, and the face.

    Files of IR versions before 4 list every initialiser among the inputs, and none of them can be overridden.
    """
    import onnx

    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    named = {one.name for one in opened.graph.initializer}
    if opened.ir_version < 4:
        _replace(opened.graph.input, [one for one in opened.graph.input if one.name not in named])
        named = set()
    inputs = {one.name for one in opened.graph.input}
    overridable = tuple(one for one in model.graph.initializer if one.name in named & inputs)
    taken = {one.name for one in overridable}
    _replace(opened.graph.initializer, [one for one in opened.graph.initializer if one.name not in taken])
    opened.ir_version = max(8, opened.ir_version)
    domains = frozenset({node.domain for node in _all_nodes(model)} | {"", "ai.onnx"})
    face = Face(tuple(opened.graph.input), tuple(opened.graph.output), overridable, model, domains)
    return opened, face


def put_on(model: Any, face: Face, shapes: Sequence[Sequence[tuple[int, ...]]], portable: bool = True) -> Any:
    """A copy of what a tool gave with the original's face; raises StepError where it is not the same inside.

    shapes: those that each output was seen to have: a declared shape that is wrong does not come back. portable:
    whether operators of other domains than the original's are refused.
    """
    import onnx

    closed = onnx.ModelProto()
    closed.CopyFrom(model)
    graph = closed.graph
    _same_values("inputs", graph.input, face.inputs)
    _same_values("outputs", graph.output, face.outputs)
    _replace(graph.input, face.inputs)
    _replace(graph.output, [_true(one, seen) for one, seen in zip(face.outputs, shapes, strict=True)])
    there = {one.name for one in graph.initializer}
    graph.initializer.extend(one for one in face.overridable if one.name not in there)
    del graph.value_info[:]
    graph.name, graph.doc_string = face.model.graph.name, face.model.graph.doc_string
    for field in KEPT_FIELDS:
        setattr(closed, field, getattr(face.model, field))
    _replace(closed.metadata_props, face.model.metadata_props)
    _replace(graph.metadata_props, face.model.graph.metadata_props)
    foreign = {node.domain for node in _all_nodes(closed)} - face.domains - {one.domain for one in closed.functions}
    if foreign and portable:
        raise StepError(f"it is not portable: it has operators of the domain {min(foreign)!r}")
    drop_unused_opsets(closed)
    return closed


def hide_shapes(model: Any, shapes: Sequence[Sequence[tuple[int, ...]]]) -> None:
    """Drops, in place, what the file says of shapes inside, and of outputs where it was seen to be wrong."""
    del model.graph.value_info[:]
    outputs = [_true(one, seen) for one, seen in zip(model.graph.output, shapes, strict=True)]
    _replace(model.graph.output, outputs)


def _true(info: Any, seen: Sequence[tuple[int, ...]]) -> Any:
    """A value's declaration, its axes without a size where it was seen to have another."""
    if not info.type.HasField("tensor_type"):
        return info
    dims = info.type.tensor_type.shape.dim
    told = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
    if all(
        len(shape) == len(told) and all(one in (None, size) for one, size in zip(told, shape, strict=True))
        for shape in seen
    ):
        return info
    import onnx

    ranks = {len(shape) for shape in seen}
    free = [None] * ranks.pop() if len(ranks) == 1 else None
    return onnx.helper.make_tensor_value_info(info.name, info.type.tensor_type.elem_type, free)


def _same_values(what: str, found: Sequence[Any], wanted: Sequence[Any]) -> None:
    if [one.name for one in found] != [one.name for one in wanted]:
        raise StepError(f"the {what} changed their names or order")
    for left, right in zip(found, wanted, strict=True):
        kinds = [one.type.WhichOneof("value") for one in (left, right)]
        types = [one.type.tensor_type.elem_type for one in (left, right)]
        if kinds[0] is not None and (kinds[0] != kinds[1] or (types[0] and types[0] != types[1])):
            raise StepError(f"the {what} changed the type of {right.name!r}")


def drop_unused_opsets(model: Any) -> None:
    """Drops, in place, the operator sets that a file declares and does not use."""
    used = {node.domain for node in _all_nodes(model)} | {one.domain for one in model.functions} | {""}
    kept = {one.domain: one for one in model.opset_import if one.domain in used}
    _replace(model.opset_import, list(kept.values()))


def _all_nodes(model: Any) -> Any:
    from rayopt.graph.structure import graphs_of

    return (node for graph in graphs_of(model) for node in graph.node)


def _replace(field: Any, values: Sequence[Any]) -> None:
    kept = [type(one).FromString(one.SerializeToString()) for one in values]
    del field[:]
    field.extend(kept)
