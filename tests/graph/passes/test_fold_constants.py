"""What depends on constants alone."""

import onnx_ir as ir
import pytest

from rayopt.graph import passes
from tests.graph.passes.proof import Example, checks

CHAIN = """(float[n,2] x) => (float[n,2] y) <float[2] a = {1.0, 2.0}, float[2] b = {3.0, 4.0}>
{ c = Mul(a, b)  d = Exp(c)  y = Add(x, d) }"""
IN_BODY = """(float[n,2] x, bool k) => (float[n,2] y) <float[2] a = {1.0, 2.0}> {
 y = If(k)<then_branch = t () => (float[n,2] u) { c = Neg(a)  u = Add(x, c) }, else_branch = e () => (float[n,2] w) { w = Exp(x) }> }"""

FIRES = {
    "a chain": Example(CHAIN, {"Add": 1}),
    "in a body": Example(IN_BODY, {"If": 1}),
    "a shape": Example(
        "(float[n,6] x) => (float[n,a,b] y) <int64[1] p = {-1}, int64[1] q = {2}> "
        "{ s = Concat<axis = 0>(p, q, q)  t = Neg(s)  u = Abs(s)  v = Slice(s, z, o)  y = Reshape(x, w) }".replace(
            "t = Neg(s)  u = Abs(s)  v = Slice(s, z, o)  y = Reshape(x, w)", "y = Reshape(x, s)"
        ),
        {"Reshape": 1}, sizes=(2, 4),
    ),
    "a turned number": Example(
        "(float x) => (float y) <float w = {1.5}> { a = Transpose(w)  y = Add(x, a) }", {"Add": 1}
    ),
}  # fmt: skip
STAYS = {
    "a default": Example(
        CHAIN.replace("(float[n,2] x)", "(float[n,2] x, float[2] a)").replace("d = Exp(c)", "d = Neg(c)")
    ),
    "an output": Example(
        "(float[n] x) => (float[n] z, float[2] y) <float[2] a = {1.0, 2.0}> { z = Neg(x)  y = Neg(a) }"
    ),
    "squeezed by a list of no axes": Example(
        "(float[n,3] x) => (float[n,3] y) <float[1,3] w = {1, 2, 3}, int64[0] none = {}> { a = Squeeze(w, none)  y = Add(x, a) }"
    ),
    "what numpy has no type for": Example(
        "(float[n] x) => (float[n] y) <float[1] w = {0.3}> { a = Cast<to = 17>(w)  b = Cast<to = 1>(a)  y = Add(x, b) }",
        opset=21,
    ),
    "nothing constant": Example("(float[n,2] x) => (float[n,2] y) { a = Neg(x)  y = Abs(a) }"),
}


@pytest.mark.parametrize("operator", ["Squeeze(w, at)", "Transpose<perm = [0, 1, 2]>(w)", "Unsqueeze(w, far)"])
def test_what_would_fail_is_left_to_fail(operator: str) -> None:
    text = f"""(float[n] x, bool k) => (float[m] y) <float[1,3] w = {{1, 2, 3}}, int64[1] at = {{1}}, int64[1] far = {{7}}> {{
     y = If(k)<then_branch = t () => (float[a] u) {{ u = {operator} }}, else_branch = e () => (float[n] v) {{ v = Exp(x) }}> }}"""
    assert passes.run(ir.from_proto(Example(text).model()), ["fold_constants"], passes.Limits())["fold_constants"] == 0


@pytest.mark.parametrize("operator", ["RandomNormalLike(a)", "RandomUniformLike(a)", "Bernoulli(a)"])
def test_random_operators_are_not_folded(operator: str) -> None:
    text = f"(float[n,2] x) => (float[n,2] y) <float[2] a = {{0.5, 0.5}}> {{ b = {operator}  y = Add(x, b) }}"
    assert passes.run(ir.from_proto(Example(text).model()), ["fold_constants"], passes.Limits())["fold_constants"] == 0


@pytest.mark.parametrize(
    "made", ["ConstantOfShape(s)", "Expand(o, s)", "Tile(r, s)"], ids=["ConstantOfShape", "Expand", "Tile"]
)
def test_a_bomb_is_not_folded(made: str) -> None:
    text = f"""(float[n] x) => (float[n] y) <int64[2] s = {{2097152, 2097152}}, float o = {{1.0}}, float[1,1] r = {{1.0}}>
    {{ b = {made}  m = ReduceMax<keepdims = 0>(b)  y = Add(x, m) }}"""
    assert passes.run(ir.from_proto(Example(text).model()), ["fold_constants"], passes.Limits())["fold_constants"] == 0


def test_what_folding_may_add_is_bounded() -> None:
    text = """(float[n,64] x) => (float[n,64] y) <int64[2] s = {64, 64}> { b = ConstantOfShape(s)  c = Exp(b)  y = MatMul(x, c) }"""
    model = Example(text).model()
    for fold_bytes, wanted in ((1000, 0), (100_000, 1)):
        count = passes.run(ir.from_proto(model), ["fold_constants"], passes.Limits(fold_bytes=fold_bytes))
        assert count["fold_constants"] == wanted


test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("fold_constants", FIRES, STAYS)
