"""Expand before operators that broadcast."""

from tests.graph.passes.proof import Example, checks

PLAIN = "(float[1,4] x, float[3,4] z) => (float[3,4] y) <int64[2] t = {3, 4}> { e = Expand(x, t)  y = Sub(z, e) }"
DYNAMIC = """(float[n,1] x, float[k,1] v) => (float[n,4] y) <int64[1] f = {4}, float[4] c = {1.0, 2.0, 3.0, 4.0}>
{ m = Mul(x, c)  r = Neg(x)  s = Shape<end = 1>(x)  t = Concat<axis = 0>(s, f)  e = Expand(r, t)  y = Sub(m, e) }"""

FIRES = {
    "known sizes": Example(PLAIN, {"Sub": 1}),
    "a batch": Example(DYNAMIC, {"Mul": 1, "Neg": 1, "Sub": 1}),
}
STAYS = {
    "axes that nothing else has": Example("(float[3] x, float[3] z) => (float[a,b,c] y) <int64[3] t = {1, 1, 3}> { e = Expand(x, t)  y = Add(e, z) }"),
    "the other is small as well": Example(PLAIN.replace("float[3,4] z", "float[1,4] z")),
    "the other's size is unknown": Example(PLAIN.replace("float[3,4] z", "float[n,4] z").replace("float[3,4] y", "float[m,4] y"), sizes=(1, 3)),
    "no broadcasting": Example(
        "(float[1,4] x, float[3,4] z) => (float[6,4] y) <int64[2] t = {3, 4}> { e = Expand(x, t)  y = Concat<axis = 0>(z, e) }"
    ),
    "an output": Example(PLAIN.replace("(float[3,4] y)", "(float[3,4] y, float[3,4] e)")),
}  # fmt: skip

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("drop_expand", FIRES, STAYS)
