"""Slices that cut a tensor into all its parts."""

from tests.graph.passes.proof import Example, checks

TWO = """(float[n,6] x) => (float[n,6] y) <int64[1] z = {0}, int64[1] m = {2}, int64[1] e = {6}, int64[1] a = {1}>
{ u = Slice(x, z, m, a)  v = Slice(x, m, e, a)  y = Concat<axis = 1>(v, u) }"""
GATHERS = """(float[2,n,3] x) => (float[n,3] y) <int64 z = {0}, int64 o = {1}, int64[1] f = {0}>
{ u = Gather(x, z)  v = Gather(x, o)  p = Unsqueeze(u, f)  q = Unsqueeze(v, f)  s = Sub(p, q)  y = Squeeze(s, f) }"""

FIRES = {
    "two parts": Example(TWO, {"Split": 1, "Concat": 1}, special=True),
    "from behind": Example(
        TWO.replace("int64[1] a = {1}", "int64[1] a = {-1}").replace("m = {2}", "m = {-4}"), {"Split": 1, "Concat": 1}
    ),
    "places": Example(GATHERS, {"Split": 1, "Squeeze": 1, "Sub": 1}, also=("no_op_shape",)),
}
STAYS = {
    "a gap": Example(TWO.replace("m = {2}", "m = {2}, int64[1] k = {3}").replace("Slice(x, m, e, a)", "Slice(x, k, e, a)").replace("float[n,6] y", "float[n,5] y")),
    "an overlap": Example(TWO.replace("m = {2}", "m = {2}, int64[1] k = {1}").replace("Slice(x, m, e, a)", "Slice(x, k, e, a)").replace("float[n,6] y", "float[n,7] y")),
    "the end is missing": Example(TWO.replace("e = {6}", "e = {5}").replace("float[n,6] y", "float[n,5] y")),
    "every other one": Example(TWO.replace("Slice(x, m, e, a)", "Slice(x, m, e, a, m)").replace("float[n,6] y", "float[n,4] y")),
    "an unknown size": Example(TWO.replace("float[n,6]", "float[n,k]"), sizes=(6, 6)),
    "an output": Example(TWO.replace("(float[n,6] y)", "(float[n,6] y, float[n,2] u)")),
    "an older opset": Example(TWO, opset=17),
}  # fmt: skip

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("split_slices", FIRES, STAYS)
