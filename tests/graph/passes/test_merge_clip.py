"""Consecutive bounds."""

import numpy as np
import pytest
from onnx import numpy_helper

from tests.graph.passes.proof import Example, checks, rewritten, same

TWO = "(float[n,4] x) => (float[n,4] y) <float l = {-1.0}, float h = {1.0}> { a = Relu(x)  y = Clip(a, l, h) }"

FIRES = {
    "Relu and Clip": Example(TWO, {"Clip": 1}, special=True),
    "Max and Min": Example(TWO.replace("Relu(x)", "Max(l, x)").replace("Clip(a, l, h)", "Min(a, h)"), {"Clip": 1}),
    "Clip and Relu": Example(TWO.replace("Relu(x)", "Clip(x, l, )").replace("Clip(a, l, h)", "Relu(a)"), {"Relu": 1}),
    "lower bounds": Example(TWO.replace("Relu(x)", "Clip(x, l, )").replace("Clip(a, l, h)", "Max(a, h)"), {"Clip": 1}),
}
STAYS = {
    "bounds that add an axis": Example(
        "(float x) => (float[1] y) <float[1] l = {-1.0}, float[1] h = {1.0}> { a = Max(x, l)  y = Min(a, h) }"
    ),
    "a bound that is an input": Example(TWO.replace("(float[n,4] x)", "(float[n,4] x, float h)").replace(", float h = {1.0}", "")),
    "bounds by column": Example(TWO.replace("float h = {1.0}", "float[4] h = {1.0, 2.0, 3.0, 4.0}").replace("Clip(a, l, h)", "Min(a, h)")),
    "used twice": Example(TWO.replace("y = Clip(a, l, h)", "b = Clip(a, l, h)  y = Sub(b, a)")),
    "whole numbers": Example(
        "(int32[n,4] x) => (int32[n,4] y) <int32 l = {1}, int32 h = {2}> { a = Max(x, l)  y = Min(a, h) }"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("operator", "bound"), [("Max", np.inf), ("Min", -np.inf)])
def test_a_bound_that_everything_ends_at_stays(operator: str, bound: float) -> None:
    example = Example(TWO.replace("Clip(a, l, h)", f"{operator}(a, h)"))
    model = example.model()
    stored = next(one for one in model.graph.initializer if one.name == "h")
    stored.CopyFrom(numpy_helper.from_array(np.array(bound, np.float32), "h"))
    after, count = rewritten(model, "merge_clip", example)
    assert count == 0
    same(model, after, example)


test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("merge_clip", FIRES, STAYS)
