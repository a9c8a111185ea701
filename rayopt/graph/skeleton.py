"""Large models: tools get the skeleton, in which every large initialiser is an input of its type and shape.

What they rewrite then cannot depend on the weights: it is proven at true sizes, on numbers that stand in for them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rayopt.errors import StepError
from rayopt.graph.external import is_external, tensors_of
from rayopt.graph.proof import Reference
from rayopt.graph.structure import graphs_of

LARGE_BYTES = 256 << 20
WHOLE_BYTES = 1 << 30  # what is larger is proven by its skeleton or not at all
KEPT_BYTES = 1 << 10
KEPT_WHOLE_BYTES = 64 << 20  # of all whole numbers, which may be sizes or places: those that they have are kept
WEIGHT_TYPES = frozenset({1, 10, 11, 2, 3})  # real numbers, and the bytes that quantized ones are
TELLING = 1e-6  # the least value of an output that a difference is seen in


@dataclass(frozen=True)
class Skeleton:
    """`model` without large weights; `held` has them by name, as the file does: inside, or as references.

    `kept`: of external data that stays in the model, the tensor with it and the reference to it, by name.
    """

    model: Any
    held: Mapping[str, Any]
    kept: Mapping[str, tuple[Any, Any]]

    def whole(self, model: Any) -> Any:
        """A copy of what a tool made of the skeleton, with the weights that it still uses."""
        import onnx

        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        used = {name for graph in graphs_of(copy) for node in graph.node for name in node.input}
        used |= {one.name for graph in graphs_of(copy) if hasattr(graph, "initializer") for one in graph.output}
        inputs = [one for one in model.graph.input if one.name not in self.held]
        del copy.graph.input[:]
        copy.graph.input.extend(inputs)
        copy.graph.initializer.extend(tensor for name, tensor in self.held.items() if name in used)
        for tensor in copy.graph.initializer:
            inside, reference = self.kept.get(tensor.name, (None, None))
            if tensor == inside:
                tensor.CopyFrom(reference)
        return copy

    def reference(self, seed: int) -> Reference:
        """The skeleton's outputs, to compare with; raises StepError where they would tell nothing."""
        found = Reference(self.model, {}, seed, frozenset(self.held))
        if not any(_is_telling(one) for outputs in found.outputs for one in outputs):
            raise StepError("with numbers in place of its weights its outputs are nothing to compare")
        return found


def skeleton(opened: Any, folder: Path, names: Collection[str] | None = None) -> Skeleton:
    """Takes the large weights out of a model (in place), from inside branches too; small external data is read.

    names: which ones are taken out, where that is known. Raises StepError where a name stands for two of them.
    """
    import onnx

    held: dict[str, Any] = {}
    for tensor in _taken_out(opened, names):
        if tensor.name in held:
            raise StepError(f"two weights are named {tensor.name!r}")
        held[tensor.name] = tensor
    kept = _read(opened, folder)
    for name, tensor in held.items():
        opened.graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
    return Skeleton(opened, held, kept)


def _taken_out(model: Any, names: Collection[str] | None) -> Iterator[Any]:
    """Copies of the large weights under their names, each of which is no longer in its graph."""
    for graph in graphs_of(model):
        if not hasattr(graph, "initializer"):
            continue  # a function: what is in it has no name outside
        large = [_is_large(one, one.name, names) for one in graph.initializer]
        yield from (_named(one, one.name) for one, is_large in zip(graph.initializer, large, strict=True) if is_large)
        constants = [_constant(node) for node in graph.node]
        outside = [tensor is not None and _is_large(tensor, name, names) for name, tensor in constants]
        yield from (
            _named(tensor, name) for (name, tensor), is_large in zip(constants, outside, strict=True) if is_large
        )
        _keep(graph.initializer, large)
        _keep(graph.node, outside)


def _constant(node: Any) -> tuple[str, Any]:
    """The name and the tensor of a Constant, None for other nodes."""
    tensor = (
        next((one.t for one in node.attribute if one.name == "value"), None) if node.op_type == "Constant" else None
    )
    return (node.output[0] if node.output else ""), tensor


def _keep(field: Any, taken: Sequence[bool]) -> None:
    if any(taken):
        kept = [one for one, is_taken in zip(field, taken, strict=True) if not is_taken]
        del field[:]
        field.extend(kept)


def _is_large(tensor: Any, name: str, names: Collection[str] | None) -> bool:
    if names is not None:
        return name in names
    return tensor.data_type in WEIGHT_TYPES and (is_external(tensor) or tensor.ByteSize() > KEPT_BYTES)


def _named(tensor: Any, name: str) -> Any:
    import onnx

    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    return copy


def _read(model: Any, folder: Path) -> dict[str, tuple[Any, Any]]:
    """Takes external data that stays in the skeleton into it."""
    import onnx

    outside = [one for one in tensors_of(model) if is_external(one)]
    if sum(8 * math.prod(one.dims) for one in outside) > KEPT_WHOLE_BYTES:
        raise StepError("it has more whole numbers than are kept in a skeleton")
    found = {}
    for tensor in outside:
        reference = _named(tensor, tensor.name)
        onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        found[tensor.name] = (_named(tensor, tensor.name), reference)
    return found


def _is_telling(output: Any) -> bool:
    if not isinstance(output, np.ndarray) or output.dtype.kind != "f":
        return np.size(output) > 0
    finite = output[np.isfinite(output)]
    return bool(np.abs(finite.astype(np.float64)).max(initial=0) > TELLING)
