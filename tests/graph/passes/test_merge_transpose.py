"""Consecutive transposes, and those that move nothing."""

from tests.graph.passes.proof import Example, checks

TWO = "(float[n,2,3] x) => (float[n,3,2] y) { a = Transpose<perm = [2, 1, 0]>(x)  y = Transpose<perm = [2, 0, 1]>(a) }"

FIRES = {
    "two": Example(TWO, {"Transpose": 1}),
    "two that undo each other": Example(
        "(float[n,2,3] x) => (float[n,2,3] y) { a = Transpose<perm = [1, 2, 0]>(x)  b = Transpose<perm = [2, 0, 1]>(a)  y = Neg(b) }",
        {"Neg": 1},
    ),
    "axes of size 1": Example(
        "(float[n,1,3] x) => (float[1,n,3] y) { y = Transpose<perm = [1, 0, 2]>(x) }", {"Reshape": 1}
    ),
}
STAYS = {
    "an axis of size 1 beside a batch that may be empty": Example(
        "(float[n,1,m] x) => (float[n,m,1] y) { y = Transpose<perm = [0, 2, 1]>(x) }", sizes=(0, 1, 3)
    ),
    "used twice": Example(
        TWO.replace("(float[n,3,2] y)", "(float[n,3,2] y, float[3,2,n] z)").replace(" }", "  z = Neg(a) }")
    ),
    "axes that hold something": Example("(float[n,2,3] x) => (float[2,n,3] y) { y = Transpose<perm = [1, 0, 2]>(x) }"),
}

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("merge_transpose", FIRES, STAYS)
