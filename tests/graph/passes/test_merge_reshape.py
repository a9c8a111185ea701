"""Consecutive layouts."""

import onnx_ir as ir
import pytest

from rayopt.graph.passes import inference, symbolic
from tests.graph.passes.proof import Example, checks

FIRES = {
    "two Reshapes": Example(
        "(float[n,12] x) => (float[n,2,6] y) <int64[3] s = {0, 3, 4}, int64[3] t = {-1, 2, 6}> "
        "{ a = Reshape(x, s)  y = Reshape(a, t) }", {"Reshape": 1}
    ),
    "Squeeze and Unsqueeze": Example(
        "(float[n,1,4] x) => (float[1,n,4] y) <int64[1] s = {1}, int64[1] t = {0}> { a = Squeeze(x, s)  y = Unsqueeze(a, t) }",
        {"Reshape": 1},
    ),
    "three": Example(
        "(float[n,4,3] x) => (float[1,n,12,1] y) <int64[1] s = {0}, int64[1] t = {-1}> "
        "{ a = Flatten(x)  b = Unsqueeze(a, s)  y = Unsqueeze(b, t) }", {"Reshape": 1}
    ),
}  # fmt: skip
STAYS = {
    "a batch that may be empty beside what is left over": Example(
        "(float[n,2,m] x) => (float[n,k] y) <int64[1] s = {3}> { a = Unsqueeze(x, s)  y = Flatten(a) }", sizes=(0, 1, 3)
    ),
    "two unknown sizes that move": Example(
        "(float[1,n,k] x) => (float[n,k,1] y) <int64[1] s = {0}, int64[1] t = {2}> { a = Squeeze(x, s)  y = Unsqueeze(a, t) }"
    ),
    "used twice": Example(
        "(float[n,12] x) => (float[n,2,6] y, float[n,3,4] z) <int64[3] s = {0, 3, 4}, int64[3] t = {-1, 2, 6}> "
        "{ a = Reshape(x, s)  y = Reshape(a, t)  z = Neg(a) }"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("place", "filled"), [(0, {"i0d0"}), (1, set())], ids=["the same axis", "another axis"])
def test_a_reshape_fails_itself_where_what_it_is_told_and_what_it_takes_are_empty(place: int, filled: set[str]) -> None:
    text = f"""(float[n,m] x) => (float[k,l] y) <int64[1] at = {{{place}}}, int64[1] rest = {{-1}}> {{
     s = Shape(x)  d = Gather(s, at)  t = Concat<axis = 0>(d, rest)  y = Reshape(x, t) }}"""
    model = ir.from_proto(Example(text).model())
    inference.infer(model)
    assert symbolic.never_empty(model.graph[3]) == filled


test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("merge_reshape", FIRES, STAYS)
