"""Dead code, and that a long chain takes linear time."""

from tests.graph.passes.proof import Example, checks

FIRES = {
    "a tail": Example("(float[n,2] x) => (float[n,2] y) { y = Neg(x)  a = Relu(x)  b = Abs(a) }", {"Neg": 1}),
    "used by dead ones": Example(
        "(float[n,2] x) => (float[n,2] y) { a = Relu(x)  b = Abs(a)  y = Neg(x) }", {"Neg": 1}
    ),
    "random, but unused": Example(
        "(float[n,2] x) => (float[n,2] y) { a = RandomNormalLike(x)  y = Neg(x) }", {"Neg": 1}
    ),
}
STAYS = {
    "one of two outputs": Example("(float[4,2] x) => (float[2,2] y) { y, z = Split<num_outputs = 2>(x) }", sizes=(1,)),
    "nothing dead": Example("(float[n,2] x) => (float[n,2] y) { a = Relu(x)  y = Neg(a) }"),
}

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("dead_code", FIRES, STAYS)
