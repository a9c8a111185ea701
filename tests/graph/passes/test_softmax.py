"""Softmax from its exponentials, and over a flat view."""

from tests.graph.passes.proof import Example, checks

RATIO = """(float[n,3,4] x) => (float[n,3,4] y) <int64[1] axis = {-1}>
{ m = ReduceMax(x, axis)  d = Sub(x, m)  e = Exp(d)  s = ReduceSum(e, axis)  y = Div(e, s) }"""
FLAT = "(float[2,4,1,1] x) => (float[2,4,1,1] y) <int64[4] back = {2, 4, 1, 1}> "
FLAT += "{ f = Flatten(x)  s = Softmax(f)  y = Reshape(s, back) }"

RESTORED = """(float[n,k,4] x, float[n,4,k] z) => (float[n,k,m] y) { a = MatMul(x, z)  h = Shape(a)  f = Flatten<axis = 2>(a)
  s = Softmax(f)  r = Reshape(s, h)  y = Neg(r) }"""

FIRES = {
    "last axis": Example(RATIO, {"Softmax": 1}),
    "another axis": Example(RATIO.replace("{-1}", "{1}"), {"Softmax": 1}),
    "over rows, restored by its own shape": Example(RESTORED, {"Softmax": 1, "Neg": 1, "MatMul": 1}),
    "LogSoftmax over rows": Example(
        RESTORED.replace("Softmax", "LogSoftmax"), {"LogSoftmax": 1, "Neg": 1, "MatMul": 1}
    ),
    "LogSoftmax over a flat view": Example(FLAT.replace("Softmax", "LogSoftmax"), {"LogSoftmax": 1}),
    "over a flat view": Example(FLAT, {"Softmax": 1}),
}
STAYS = {
    "rows of two axes": Example(RESTORED.replace("Flatten<axis = 2>", "Flatten<axis = 1>")),
    "restored by another shape": Example(RESTORED.replace("h = Shape(a)", "h = Shape(q)").replace("float[n,4,k] z", "float[n,4,k] z, float[n,k,k] q")),
    "axes that differ": Example(RATIO.replace("ReduceSum(e, axis)", "ReduceSum(e, other)").replace("<", "<int64[1] other = {1}, ", 1)),
    "the axis is gone": Example(
        RATIO.replace("ReduceMax(x, axis)", "ReduceMax<keepdims = 0>(x, axis)")
        .replace("ReduceSum(e, axis)", "ReduceSum<keepdims = 0>(e, axis)")
        .replace("float[n,3,4]", "float[4,4,4]")
    ),
    "not shifted by its maximum": Example(RATIO.replace("ReduceMax", "ReduceMin")),
    "wide axes after the flat view": Example(FLAT.replace("[2,4,1,1]", "[2,4,1,3]").replace("{2, 4, 1, 1}", "{2, 4, 1, 3}")),
}  # fmt: skip

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("softmax", FIRES, STAYS)
