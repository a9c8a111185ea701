"""Whole numbers times 0."""

from tests.graph.passes.proof import Example, checks

TIED = "(int64 k, float[n] x) => (float[n] y) <int64 z = {0}> { m = Mul(k, z)  c = Cast<to = 1>(m)  y = Add(x, c) }"

FIRES = {"an input that is tied": Example(TIED, {"Cast": 1, "Add": 1})}
STAYS = {
    "floats, which may be infinite": Example(TIED.replace("int64", "float"), special=True),
    "sizes that are not known": Example(
        "(int64[k] i, float[k] x) => (float[k] y) <int64 z = {0}> { m = Mul(i, z)  c = Cast<to = 1>(m)  y = Add(x, c) }"
    ),
    "not zero": Example(TIED.replace("{0}", "{1}")),
}

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("zero_times", FIRES, STAYS)
