"""Reordered channels."""

from tests.graph.passes.proof import Example, checks

SHUFFLE = """(float[n,6,4] x) => (float[n,6,4] y) <int64[4] s = {0, 2, 3, 4}, int64[3] t = {0, 6, 4}>
{ a = Reshape(x, s)  b = Transpose<perm = [0, 2, 1, 3]>(a)  y = Reshape(b, t) }"""

FIRES = {"two groups": Example(SHUFFLE, {"Gather": 1}, special=True)}
STAYS = {
    "other axes": Example(SHUFFLE.replace("[0, 2, 1, 3]", "[0, 1, 3, 2]")),
    "another shape": Example(
        SHUFFLE.replace("t = {0, 6, 4}", "t = {0, 4, 6}").replace("float[n,6,4] y", "float[n,4,6] y")
    ),
    "used twice": Example(SHUFFLE.replace("y = Reshape(b, t)", "c = Reshape(b, t)  d = Reshape(b, t)  y = Sub(c, d)")),
}

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("channel_shuffle", FIRES, STAYS)
