"""Consecutive casts."""

from tests.graph.passes.proof import Example, checks

UP = "(float[n] x) => (float[n] y) { a = Cast<to = 11>(x)  b = Cast<to = 1>(a)  y = Neg(b) }"

FIRES = {
    "up and back": Example(UP, {"Neg": 1}, special=True),
    "by a wider type": Example("(bool[n] x) => (float[n] y) { a = Cast<to = 6>(x)  y = Cast<to = 1>(a) }", {"Cast": 1}),
}
STAYS = {
    "to what saturates in a way of its own": Example(
        "(float[n] x) => (float[n] y) { a = Cast<to = 11>(x)  b = Cast<to = 17, saturate = 0>(a)  y = Cast<to = 1>(b) }",
        special=True,
    ),
    "down and back": Example(UP.replace("to = 11", "to = 10")),
    "by whole numbers": Example(UP.replace("to = 11", "to = 7")),
    "large whole numbers": Example("(int64[n] x) => (int64[n] y) { a = Cast<to = 11>(x)  y = Cast<to = 7>(a) }"),
}

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("merge_cast", FIRES, STAYS)
