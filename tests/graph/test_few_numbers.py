"""Few numbers are computed as the runtime does it; what makes many of few is not computed at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rayopt.graph.few_numbers import MANY, FewNumbers
from rayopt.graph.folding import folded_bytes
from tests.graph.hostile import array, model, node, value


@pytest.mark.parametrize(
    ("made", "given", "wanted"),
    [
        (node("Pow", "a b", "y"), [np.array([2]), np.array([40])], [1 << 40]),
        (node("Gather", "a b", "y"), [np.array([5, 6, 7]), np.array([2])], [7]),
        (node("Max", "a b", "y"), [np.ones((64, 1)), np.ones((1, 64))], None),
        (node("ConstantOfShape", "a", "y"), [np.array([3])], None),
        (node("Tile", "a b", "y"), [np.array([3]), np.array([1 << 40])], None),
        (node("Add", "a b", "y"), [np.array([3]), None], None),
        (node("Reshape", "a b", "y"), [np.array([3]), np.array([2, 2])], None),
    ],
)
def test_values(made: Any, given: list[Any], wanted: list[int] | None) -> None:
    (found,) = FewNumbers(17).values(made, given)
    assert (None if found is None else found.tolist()) == wanted


def test_what_is_computed_without_end_is_given_up() -> None:
    few = FewNumbers(17)
    few._count = MANY
    assert few.values(node("Neg", "a", "y"), [np.array([1])]) == [None]


@pytest.mark.parametrize(("ir", "folds"), [(8, False), (3, True)])
def test_what_callers_may_override_is_not_constant(ir: int, folds: bool) -> None:
    nodes = [node("ConstantOfShape", "d", "big"), node("ReduceSum", "big", "s", keepdims=0), node("Add", "x s", "y")]
    weights = [array("d", [1 << 20, 1 << 20], np.int64)]
    made = model(nodes, [value("x"), value("d", (2,), 7)], weights=weights, opset=9, ir=ir)
    assert (folded_bytes(made)[0] > 1 << 40) == folds
