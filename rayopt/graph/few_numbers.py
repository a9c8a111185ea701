"""What is computed from a few constant numbers, as the sizes of other constants are, by onnx's own evaluator.

Only operators whose result is of about as many numbers as they are given: whoever wrote the model may mean harm.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

FEW = 64  # elements
MANY = 5_000  # times that something is computed: what does so more often is not about sizes
ELEMENTWISE = frozenset({
    "Abs", "Add", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Clip", "Div", "Equal",
    "Exp", "Floor", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mod", "Mul",
    "Neg", "Not", "And", "Or", "Xor", "Pow", "Reciprocal", "Round", "Sign", "Sqrt", "Sub", "Sum", "Where",
})  # fmt: skip
OTHERS = frozenset({
    "ArgMax", "ArgMin", "Cast", "Concat", "CumSum", "Dropout", "Flatten", "Gather", "GatherElements", "GatherND",
    "Identity", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare", "Reshape", "ScatterElements", "ScatterND", "Shape", "Size", "Slice", "Split", "Squeeze",
    "Transpose", "Unsqueeze",
})  # fmt: skip
Array = np.ndarray[Any, Any]


class FewNumbers:
    """The evaluator for one model of standard operators of version `opset`."""

    def __init__(self, opset: int) -> None:
        self._opset, self._count = opset, 0

    def values(self, node: Any, given: Sequence[Array | None]) -> list[Array | None]:
        """What the outputs of a node are, each None where it is not known here or more than a few numbers."""
        nothing: list[Array | None] = [None] * len(node.output)
        arrays = [np.asarray(one) for one in given if one is not None]
        if len(arrays) < len(given) or not self._is_taken(node, arrays):
            return nothing
        self._count += 1
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = self._evaluated(node, arrays)
            except Exception:  # noqa: BLE001 - numbers that no runtime would take either
                return nothing
        return [np.asarray(one) if np.size(one) <= FEW and one is not None else None for one in found]

    def _is_taken(self, node: Any, arrays: Sequence[Array]) -> bool:
        if node.domain not in ("", "ai.onnx") or self._count >= MANY:
            return False
        if node.op_type not in ELEMENTWISE:
            return node.op_type in OTHERS
        try:
            return math.prod(np.broadcast_shapes(*(one.shape for one in arrays))) <= FEW
        except ValueError:
            return False

    def _evaluated(self, node: Any, arrays: Sequence[Array]) -> list[Any]:
        import onnx
        from onnx.reference import ReferenceEvaluator

        fed = dict(zip([name for name in node.input if name], arrays, strict=True))
        kinds = {name: onnx.helper.np_dtype_to_tensor_dtype(one.dtype) for name, one in fed.items()}
        inputs = [onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()]
        outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
        graph = onnx.helper.make_graph([node], "one", inputs, outputs)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", self._opset)])
        found = iter(ReferenceEvaluator(model).run(None, fed))
        return [next(found) if name else None for name in node.output]
