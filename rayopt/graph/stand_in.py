"""What is put in the place of a random operator that has inputs: the same kind of numbers, but the same each time.

Bernoulli and Multinomial still depend on the values of their input, the latter by the Gumbel-max trick (Gumbel, 1954),
so that a wrong input shows; the others depend on its shape alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rayopt.graph.verdicts import Refused

OPSET = 15  # CastLike


def check_opset(opset: int) -> None:
    if opset < OPSET:
        raise Refused("not_comparable", f"random operators with inputs below opset {OPSET}")


def stand_in(node: Any, index: int) -> list[Any]:
    """Nodes that give the node's output; `index` tells it from the model's other random operators."""
    return list(_Writer(node, index).nodes())


class _Writer:
    """Names of values that begin with a dot are the writer's own."""

    def __init__(self, node: Any, index: int) -> None:
        from onnx import helper

        self._node, self._index = node, index
        self._told = {one.name: helper.get_attribute_value(one) for one in node.attribute}

    def nodes(self) -> Iterator[Any]:
        kind, given, told = self._node.op_type, self._node.input[0], self._told
        if kind == "Multinomial":
            yield from self._multinomial(given)
            return
        yield self._op("Shape", [given], ".shape")
        yield from self._noise(".shape")
        if kind == "Bernoulli":
            yield self._op("Cast", [given], ".float", to=1)
            yield self._op("Less", [".noise", ".float"], ".found")
        elif kind == "RandomNormalLike":
            yield from self._line(".noise", 3.4 * told.get("scale", 1.0), told.get("mean", 0.0) - 1.7, ".found")
        else:
            low, high = told.get("low", 0.0), told.get("high", 1.0)
            yield from self._line(".noise", high - low, low, ".found")
        if "dtype" in told:
            yield self._op("Cast", [".found"], self._node.output[0], to=int(told["dtype"]))
        else:
            yield self._op("CastLike", [".found", given], self._node.output[0])

    def _multinomial(self, given: str) -> Iterator[Any]:
        """The class with the most of score and noise, for each sample."""
        yield self._constant(".samples", [int(self._told.get("sample_size", 1))], 7)
        yield self._constant(".one", [1], 7)
        yield self._constant(".two", [2], 7)
        yield self._op("Shape", [given], ".sizes")
        yield self._op("Slice", [".sizes", ".one", ".two"], ".classes")
        yield self._op("Concat", [".samples", ".classes"], ".shape", axis=0)
        yield from self._noise(".shape")
        yield self._op("Cast", [given], ".float", to=1)
        yield self._op("Unsqueeze", [".float", ".one"], ".scores")
        yield self._op("Add", [".scores", ".noise"], ".noisy")
        yield self._op("ArgMax", [".noisy"], ".found", axis=2, keepdims=0)
        yield self._op("Cast", [".found"], self._node.output[0], to=int(self._told.get("dtype", 6)))

    def _noise(self, shape: str) -> Iterator[Any]:
        """Numbers between 0 and 1 of a shape."""
        yield self._op("ReduceProd", [shape], ".count", keepdims=0)
        yield self._constant(".from", 0, 7)
        yield self._constant(".by", 1, 7)
        yield self._op("Range", [".from", ".count", ".by"], ".places")
        yield self._op("Cast", [".places"], ".numbers", to=1)
        yield from self._line(".numbers", 12.9898, 78.233 * (self._index + 1), ".angles")
        yield self._op("Sin", [".angles"], ".waves")
        yield from self._line(".waves", 0.5, 0.5, ".flat")
        yield self._op("Reshape", [".flat", shape], ".noise")

    def _line(self, name: str, slope: float, offset: float, out: str) -> Iterator[Any]:
        yield self._constant(f"{out}:slope", float(slope), 1)
        yield self._constant(f"{out}:offset", float(offset), 1)
        yield self._op("Mul", [name, f"{out}:slope"], f"{out}:times")
        yield self._op("Add", [f"{out}:times", f"{out}:offset"], out)

    def _constant(self, name: str, value: Any, kind: int) -> Any:
        from onnx import helper

        numbers = value if isinstance(value, list) else [value]
        tensor = helper.make_tensor(name, kind, [len(numbers)] if isinstance(value, list) else [], numbers)
        return self._op("Constant", [], name, value=tensor)

    def _op(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> Any:
        from onnx import helper

        names = [f"rayopt:drawn{self._index}{name}" if name.startswith(".") else name for name in (*inputs, output)]
        return helper.make_node(operator, names[:-1], names[-1:], **attributes)
