"""The form in which tools get a model: functions written out, a recent operator set, no claims about shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rayopt.graph.face import hide_shapes

OPSET = 13  # what all tools read and write


def normalized(model: Any, shapes: Sequence[Sequence[tuple[int, ...]]]) -> Iterator[Any]:
    """Forms of a model to be verified, the best first: of a newer opset where it can be converted, then as it is."""
    import onnx
    from onnx import inliner

    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    hide_shapes(plain, shapes)
    if plain.functions:
        plain = inliner.inline_local_functions(plain)
    version = next((one.version for one in plain.opset_import if one.domain in ("", "ai.onnx")), OPSET)
    if version < OPSET:
        try:
            converted = onnx.version_converter.convert_version(plain, OPSET)
        except Exception:  # noqa: BLE001 - it says so of many old operators: they stay as they are
            converted = None
        if converted is not None:
            del converted.graph.value_info[:]
            yield converted
    yield plain
