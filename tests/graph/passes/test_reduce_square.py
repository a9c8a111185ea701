"""Norms and sums of squares."""

from tests.graph.passes.proof import Example, checks

ROOT = """(float[n,4] x) => (float[n,1] y) <float two = {2.0}, int64[1] a = {1}>
{ p = Pow(x, two)  s = ReduceSum(p, a)  y = Sqrt(s) }"""
HALVES = """(float[2,6,t] x) => (float[2,3,t] y)
<float two = {2.0}, int64[1] z = {0}, int64[1] m = {3}, int64[1] e = {9223372036854775807}, int64[1] a = {1}> {
 u = Slice(x, z, m, a)  v = Slice(x, m, e, a)  p = Pow(u, two)  q = Pow(v, two)  s = Add(p, q)  y = Sqrt(s) }"""

FIRES = {
    "a root": Example(ROOT, {"ReduceL2": 1}, special=True),
    "a sum": Example(ROOT.replace("y = Sqrt(s)", "y = Neg(s)").replace("Pow(x, two)", "Mul(x, x)"), {"ReduceSumSquare": 1, "Neg": 1}),
    "two halves": Example(HALVES, {"Reshape": 1, "ReduceL2": 1}),
    "two halves of a Split": Example(
        HALVES.replace("u = Slice(x, z, m, a)  v = Slice(x, m, e, a)", "u, v = Split<axis = 1, num_outputs = 2>(x)"),
        {"Reshape": 1, "ReduceL2": 1},
    ),
}  # fmt: skip
STAYS = {
    "two halves of a batch that may be empty": Example(HALVES.replace("float[2,", "float[n,"), sizes=(0, 1, 3)),
    "another power": Example(ROOT.replace("two = {2.0}", "two = {3.0}"), low=0.1),
    "parts that overlap": Example(HALVES.replace("int64[1] z = {0}, int64[1] m = {3}", "int64[1] z = {0}, int64[1] m = {3}, int64[1] k = {2}, int64[1] f = {5}").replace("Slice(x, m, e, a)", "Slice(x, k, f, a)")),
    "half of two tensors": Example(HALVES.replace("(float[2,6,t] x)", "(float[2,6,t] x, float[2,6,t] w)").replace("v = Slice(x", "v = Slice(w")),
    "unequal parts": Example(HALVES.replace("int64[1] m = {3}", "int64[1] m = {5}").replace("float[2,6,t]", "float[2,6,t]").replace("[2,3,t]", "[2,5,t]")),
    "an older opset": Example(ROOT, opset=17),
}  # fmt: skip

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("reduce_square", FIRES, STAYS)
