"""The form in which tools get a model: functions written out, a recent operator set, no claims about shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rayopt.graph.difference import difference
from rayopt.graph.face import hide_shapes
from rayopt.graph.inputs import Probe, assignments, feed, inputs_of
from rayopt.graph.passes.upgrade import convert
from rayopt.graph.sessions import open_session, run
from rayopt.graph.verdicts import Refused

OPSET = 13  # what all tools read and write
RUNTIME_OPSET = 7  # the oldest that the runtime has kernels for


def normalized(model: Any, shapes: Sequence[Sequence[tuple[int, ...]]]) -> Iterator[Any]:
    """Forms of a model to be verified, the best first: of a newer opset where it can be converted, then as it is."""
    import onnx
    from onnx import inliner

    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    hide_shapes(plain, shapes)
    if plain.functions:
        plain = inliner.inline_local_functions(plain)
    if opset_of(plain) < OPSET:
        try:
            converted = convert(plain, OPSET)
        except Exception:  # noqa: BLE001 - it says so of many old operators: they stay as they are
            converted = None
        if converted is not None:
            del converted.graph.value_info[:]
            yield converted
    yield plain


def opset_of(model: Any) -> int:
    """The version of the standard operators that a model uses."""
    return next((int(one.version) for one in model.opset_import if one.domain in ("", "ai.onnx")), OPSET)


def readable(model: Any) -> Any:
    """A model in operators that the runtime has; one that is older is converted, and proven by onnx's own evaluator.

    Raises Refused where it cannot be converted, or where that gives other outputs.
    """
    if opset_of(model) >= RUNTIME_OPSET:
        return model
    from onnx.reference import ReferenceEvaluator

    try:
        converted = convert(model, OPSET)
        running = open_session(converted.SerializeToString())
        inputs = inputs_of(running, converted, {})
        fed = feed(inputs, Probe(0, next(assignments(inputs))))
        wanted = ReferenceEvaluator(model).run(None, fed)
        for before, after in zip(wanted, run(running, fed), strict=True):
            difference(before, after)
    except Refused:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        reason = f"opset {opset_of(model)} cannot be converted: {lines[0][:150] if lines else type(error).__name__}"
        raise Refused("does_not_load", reason) from error
    return converted
