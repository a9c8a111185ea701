"""Initializers of the same content."""

from tests.graph.passes.proof import Example, checks

TWO = """(float[n,2] x) => (float[n,2] y) <float[2,2] v = {1.0, 2.0, 3.0, 4.0}, float[2,2] w = {1.0, 2.0, 3.0, 4.0}>
{ a = MatMul(x, v)  y = MatMul(a, w) }"""

FIRES = {"the same bytes": Example(TWO, {"MatMul": 2})}
STAYS = {
    "another number": Example(TWO.replace("4.0}>", "5.0}>")),
    "another shape": Example(TWO.replace("float[2,2] w", "float[1,2,2] w").replace("float[n,2] y", "float[1,n,2] y")),
    "the sign of zero": Example(TWO.replace("4.0}>", "0.0}>").replace("4.0}, float", "-0.0}, float")),
    "another type": Example(
        "(float[n] x) => (float[n] y, int64[n] z) <int64[1] v = {0}, float[1] w = {0.0}> "
        "{ y = Add(x, w)  c = Cast<to = 7>(x)  z = Add(c, v) }"
    ),
    "a default": Example(TWO.replace("(float[n,2] x)", "(float[n,2] x, float[2,2] w)")),
}

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("deduplicate", FIRES, STAYS)
