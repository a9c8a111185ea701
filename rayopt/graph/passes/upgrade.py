"""A model with its operators raised to a newer opset by onnx's converter; the model itself where that does not go.

What the converter gets wrong is put right, or not tried: it leaves Hardmax as it is, which took all axes from one on
together before opset 13, and a Resize that had no words for its coordinates gets those of newer ones.

Patterns are written into operators of newer opsets, and passes expect the forms of opset 13 on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import onnx
from onnx import helper, version_converter

from rayopt.graph.structure import graphs_of

SMALL_BYTES = 1024
HARDMAX_OPSET, RESIZE_OPSET = 13, 11  # of their present meaning
WITHOUT_KERNELS = {"RoiAlign", "GlobalLpPool", "MaxRoiPool", "Multinomial", "Bernoulli"}  # from opset 22 on
OLD_RESIZE = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def raised(model: Any, target_opset: int) -> Any:
    """The model at `target_opset` where it is older, valid and of standard operators; else the model as it is."""
    versions = [one.version for one in model.opset_import if one.domain in ("", "ai.onnx")]
    if target_opset > 21 and any(node.op_type in WITHOUT_KERNELS for node in _nodes(model)):
        target_opset = 21
    if len(versions) != 1 or versions[0] >= target_opset or model.functions:
        return model
    for target in (target_opset, 18, 17, 13):
        if versions[0] < target <= target_opset:
            found = _converted(model, target)
            if found is not None:
                return found
    return model


def convert(model: Any, target_opset: int) -> Any:
    """The model at a newer opset; raises ValueError, or what the converter raises, where that cannot be done right."""
    version = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), target_opset)
    if version < HARDMAX_OPSET <= target_opset and any(node.op_type == "Hardmax" for node in _nodes(model)):
        raise ValueError(f"Hardmax of opset {version} has another meaning in opset {target_opset}")
    converted = version_converter.convert_version(model, target_opset)
    if version < RESIZE_OPSET <= target_opset:
        for node in _nodes(converted):
            if node.op_type == "Resize" and node.domain in ("", "ai.onnx"):
                _keep(node.attribute, lambda one: one.name not in OLD_RESIZE)
                node.attribute.extend(helper.make_attribute(name, value) for name, value in OLD_RESIZE.items())
    return converted


def _nodes(model: Any) -> Iterator[Any]:
    for graph in graphs_of(model):
        yield from graph.node


def _converted(model: Any, target: int) -> Any | None:
    """The converter's result; it is given large weights as inputs, since it would copy them again and again."""
    small = onnx.ModelProto()
    small.CopyFrom(model)
    inputs = {info.name for info in model.graph.input}
    large = [one for one in model.graph.initializer if one.ByteSize() > SMALL_BYTES and one.name not in inputs]
    names = {one.name for one in large}
    _keep(small.graph.initializer, lambda one: one.name not in names)
    small.graph.input.extend(helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)) for one in large)
    try:
        converted = convert(small, target)
        onnx.checker.check_model(converted)
    except Exception:  # noqa: BLE001  it does not know an operator of the model
        return None
    _keep(converted.graph.input, lambda one: one.name not in names)
    converted.graph.initializer.extend(large)
    kept = [info.name for field in ("input", "output") for info in getattr(model.graph, field)]
    if kept != [info.name for field in ("input", "output") for info in getattr(converted.graph, field)]:
        return None
    converted.ir_version = max(model.ir_version, 8)
    for field in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        setattr(converted, field, getattr(model, field))
    converted.graph.name, converted.graph.doc_string = model.graph.name, model.graph.doc_string
    del converted.metadata_props[:]
    converted.metadata_props.extend(model.metadata_props)
    return converted


def _keep(field: Any, wanted: Callable[[Any], bool]) -> None:
    kept = [one for one in field if wanted(one)]
    del field[:]
    field.extend(kept)
