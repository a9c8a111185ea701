"""Layouts that keep every size."""

from tests.graph.passes.proof import Example, checks, rewritten, same

FIRES = {
    "Reshape": Example(
        "(float[n,4] x) => (float[n,4] y) <int64[2] t = {0, 4}> { a = Neg(x)  b = Reshape(a, t)  y = Abs(b) }", {"Neg": 1, "Abs": 1}
    ),
    "Expand": Example(
        "(float[n,4] x) => (float[n,4] y) <int64[2] t = {1, 4}> { a = Neg(x)  b = Expand(a, t)  y = Abs(b) }", {"Neg": 1, "Abs": 1}
    ),
    "Flatten": Example("(float[n,4] x) => (float[n,4] y) { a = Neg(x)  b = Flatten(a)  y = Abs(b) }", {"Neg": 1, "Abs": 1}),
    "Squeeze undone": Example(
        "(float[n,1,4] x) => (float[n,1,4] y) <int64[1] t = {1}> { a = Squeeze(x, t)  b = Unsqueeze(a, t)  y = Abs(b) }", {"Abs": 1}
    ),
    "Unsqueeze undone": Example(
        "(float[n,4] x) => (float[n,4] y) <int64[1] t = {-1}> { a = Unsqueeze(x, t)  b = Squeeze(a, t)  y = Abs(b) }", {"Abs": 1}
    ),
    "a mean of one": Example(
        "(float[n,1] x) => (float[n] y) <int64[1] t = {1}> { a = Neg(x)  b = ReduceMean<keepdims = 0>(a, t)  y = Abs(b) }",
        {"Neg": 1, "Squeeze": 1, "Abs": 1}, special=True,
    ),
    "a sum of one that stays": Example(
        "(float[n,1] x) => (float[n,1] y) <int64[1] t = {-1}> { a = Neg(x)  b = ReduceSum(a, t)  y = Abs(b) }", {"Neg": 1, "Abs": 1}
    ),
}  # fmt: skip
STAYS = {
    "another layout": Example("(float[2,4] x) => (float[4,2] y) <int64[2] t = {4, 2}> { a = Neg(x)  b = Reshape(a, t)  y = Abs(b) }"),
    "Expand of one": Example("(float[n,1] x) => (float[n,4] y) <int64[2] t = {1, 4}> { a = Neg(x)  b = Expand(a, t)  y = Abs(b) }"),
    "an unknown size": Example("(float[n,1] x) => (float[n] y) <int64[1] t = {0}> { a = Neg(x)  b = ReduceMean<keepdims = 0>(a, t)  y = Abs(b) }"),
    "other axes": Example(
        "(float[1,1,4] x) => (float[1,1,4] y) <int64[1] t = {0}, int64[1] u = {2}> { a = Squeeze(x, t)  b = Unsqueeze(a, u)  y = Abs(b) }".replace("float[1,1,4] y", "float[1,4,1] y")
    ),
    "squeezed by a list of no axes": Example(
        "(float[1,3] x) => (float[k] y) <int64[0] none = {}> { a = Squeeze(x, none)  y = Abs(a) }"
    ),
    "what follows a Squeeze by no axes": Example(
        "(float[1,3] x) => (float[a,b] y) <int64[0] none = {}, int64[2] t = {1, 3}> { a = Squeeze(x, none)  b = Neg(a)  c = Expand(b, t)  y = Abs(c) }"
    ),
    "a norm of one": Example("(float[n,1] x) => (float[n,1] y) <int64[1] t = {1}> { a = Neg(x)  b = ReduceL2(a, t)  y = Exp(b) }"),
}  # fmt: skip


def test_a_squeeze_of_no_axes_is_not_undone() -> None:
    text = "(float[1,3] x) => (float[k] y) <int64[0] none = {}> { a = Squeeze(x, none)  b = Unsqueeze(a, none)  y = Abs(b) }"
    example = Example(text)
    after, _ = rewritten(example.model(), "no_op_shape", example)
    assert [node.op_type for node in after.graph.node] == ["Squeeze", "Abs"]
    same(example.model(), after, example)


test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("no_op_shape", FIRES, STAYS)
