"""Nodes that compute the same."""

from tests.graph.passes.proof import Example, checks

TWICE = "(float[n,2] x) => (float[n,2] y) { a = Neg(x)  b = Neg(x)  c = Abs(a)  d = Abs(b)  y = Sub(c, d) }"

FIRES = {
    "a chain": Example(TWICE, {"Neg": 1, "Abs": 1, "Sub": 1}, special=True),
    "one of them an output": Example(
        "(float[n,2] x) => (float[n,2] y, float[n,2] z) { a = Neg(x)  y = Neg(x)  z = Abs(a) }", {"Neg": 1, "Abs": 1}
    ),
    "attributes that are equal": Example(
        "(float[n,2] x) => (float[n,2] y) { a = LeakyRelu<alpha = 0.5>(x)  b = LeakyRelu<alpha = 0.5>(x)  y = Add(a, b) }",
        {"LeakyRelu": 1, "Add": 1},
    ),
}
STAYS = {
    "other attributes": Example(
        "(float[n,2] x) => (float[n,2] y) { a = LeakyRelu<alpha = 0.5>(x)  b = LeakyRelu<alpha = 0.6>(x)  y = Add(a, b) }"
    ),
    "other inputs": Example(
        "(float[n,2] x, float[n,2] z) => (float[n,2] y) { a = Sub(x, z)  b = Sub(z, x)  y = Mul(a, b) }"
    ),
    "outputs": Example("(float[n,2] x) => (float[n,2] y, float[n,2] z) { y = Neg(x)  z = Neg(x) }"),
}


def test_random_operators_are_not_merged() -> None:
    import onnx_ir as ir

    from rayopt.graph import passes

    text = "(float[n,2] x) => (float[n,2] y) { a = RandomNormalLike(x)  b = RandomNormalLike(x)  y = Sub(a, b) }"
    assert passes.run(ir.from_proto(Example(text).model()), ["common_subexpression"], passes.Limits()) == {
        "common_subexpression": 0
    }


test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("common_subexpression", FIRES, STAYS)
