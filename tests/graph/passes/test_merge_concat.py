"""A Concat inside a Concat."""

from tests.graph.passes.proof import Example, checks

NESTED = "(float[n,2] x) => (float[n,6] y) { a = Concat<axis = 1>(x, x)  y = Concat<axis = 1>(x, a) }"

FIRES = {
    "one axis": Example(NESTED, {"Concat": 1}),
    "the axis from behind": Example(NESTED.replace("y = Concat<axis = 1>", "y = Concat<axis = -1>"), {"Concat": 1}),
}
STAYS = {
    "another axis": Example(
        "(float[2,2] x) => (float[4,4] y) { a = Concat<axis = 1>(x, x)  y = Concat<axis = 0>(a, a) }"
    ),
    "used twice": Example(
        NESTED.replace("(float[n,6] y)", "(float[n,6] y, float[n,4] z)").replace(" }", "  z = Neg(a) }")
    ),
}

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("merge_concat", FIRES, STAYS)
