"""Arithmetic on shapes."""

import onnx_ir as ir
import pytest

from rayopt.graph import passes
from tests.graph.passes.proof import Example, checks

CHAIN = """(float[n,4,6] x) => (float[n,4,2,3] y) <int64 zero = {0}, int64 one = {1}, int64[1] rest = {2, 3}, int64[1] front = {0}> {
 s = Shape(x)  b = Gather(s, zero)  c = Gather(s, one)  p = Unsqueeze(b, front)  q = Unsqueeze(c, front)
 t = Concat<axis = 0>(p, q, rest)  y = Reshape(x, t) }""".replace("int64[1] rest", "int64[2] rest")
KNOWN = """(float[4,6] x) => (float[n] y) { s = Shape(x)  c = Cast<to = 1>(s)  y = Exp(c) }"""
LEFT = {"Shape": 1, "Gather": 1, "Unsqueeze": 1, "Concat": 1, "Reshape": 1}

FIRES = {
    "a batch and numbers": Example(CHAIN, {"Reshape": 1}),
    "a known shape": Example(KNOWN, {"Cast": 1, "Exp": 1}),
    "half of a size": Example(
        """(float[4,6] x) => (float[4,2,3] y) <int64 one = {1}, int64 two = {2}, int64[1] k = {2}, int64[1] f = {4}, int64[1] z = {0}> {
        s = Shape(x)  d = Gather(s, one)  h = Div(d, two)  u = Unsqueeze(h, z)  t = Concat<axis = 0>(f, k, u)  y = Reshape(x, t) }""",
        {"Reshape": 1},
    ),
    "Size": Example(
        "(float[4,6] x) => (float y) { s = Size(x)  c = Cast<to = 1>(s)  y = Exp(c) }", {"Cast": 1, "Exp": 1}
    ),
    "-1 that is the batch": Example(
        "(float[n,4,6] x) => (float[n,24] y) <int64[2] t = {-1, 24}> { y = Reshape(x, t) }", {"Reshape": 1}
    ),
}
EMPTY = """(float[n,2,m] x) => (float[a,b] y) <int64 zero = {0}, int64 two = {2}, int64[1] front = {0}> { s = Shape(x)
 c = Gather(s, zero)  d = Gather(s, two)  e = Mul(d, two)  f = Unsqueeze(c, front)  g = Unsqueeze(e, front)
 t = Concat<axis = 0>(f, g)  y = Reshape(x, t) }"""
STAYS = {
    "a batch that may be empty beside what is left over": Example(EMPTY, sizes=(0, 1, 3)),
    "two unknown sizes of another input": Example(
        """(float[n,4] x, float[a,b,4] z) => (float[a,b,c] y) <int64[1] m = {1}> { s = Shape<end = 2>(z)  t = Concat<axis = 0>(s, m)
        h = ReduceSum<keepdims = 1>(x)  y = Expand(h, t) }"""
    ),
    "allowzero": Example(
        "(float[n,4,6] x) => (float[n,24] y) <int64[2] t = {-1, 24}> { y = Reshape<allowzero = 1>(x, t) }"
    ),
    "an output": Example("(float[4,6] x) => (int64[2] y, float[4,6] z) { y = Shape(x)  z = Neg(x) }"),
    "an unknown size": Example("(float[n,6] x) => (float[2] y) { s = Shape(x)  c = Cast<to = 1>(s)  y = Exp(c) }"),
    "the same name for two inputs": Example(
        """(float[n,4] x, float[n,4] z) => (float[a,b] y) <int64[1] m = {4}, int64[1] e = {0}> { s = Shape<end = 1>(z)
        t = Concat<axis = 0>(s, m)  h = ReduceSum<keepdims = 1>(x)  y = Expand(h, t) }"""
    ),
}  # fmt: skip


@pytest.mark.parametrize("operator", ["Add", "Mul"])
def test_sizes_that_are_doubled_again_and_again_end(operator: str) -> None:
    doubled = "  ".join(f"s{at + 1} = {operator}(s{at}, s{at})" for at in range(60))
    text = f"(float[n,m] x) => (int64[2] y) {{ s0 = Shape(x)  {doubled}  y = Identity(s60) }}"
    counts = passes.run(ir.from_proto(Example(text).model()), ["shape_arithmetic"], passes.Limits())
    assert counts == {"shape_arithmetic": 0}


test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("shape_arithmetic", FIRES, STAYS)
