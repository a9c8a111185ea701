"""Attention of four axes, and of heads cut out of three."""

from tests.graph.passes.proof import Example, checks

PLAIN = """(float[n,2,5,3] q, float[n,2,3,6] k, float[n,2,6,4] v) => (float[n,2,5,4] y) <float s = {0.5}>
{ a = MatMul(q, k)  b = Mul(a, s)  c = Softmax(b)  y = MatMul(c, v) }""".replace("[n,", "[3,")
LOWEST = "-3.4028234663852886e38"
MASKED = PLAIN.replace("{0.5}", "{0.5}, float[1,1,1,6] m = {0, -1, -1e30, -3.4028234663852886e38, 2, 0}").replace(
    "c = Softmax(b)", "e = Add(b, m)  c = Softmax(e)"
)
ROWS = MASKED.replace("[1,1,1,6] m = {", "[1,1,5,6] m = {" + 4 * f"{LOWEST}, 0, 0, 1, 2, {LOWEST}, ")
HEADS = """(float[n,5,6] x) => (float[n,5,6] y) <int64[4] s = {0, 5, 2, 3}, int64[3] t = {0, 5, 6}, float r = {1.7}>
{ f = Neg(x)  g = Abs(x)  i = Reshape(x, s)  j = Reshape(f, s)  k = Reshape(g, s)
  q = Transpose<perm = [0, 2, 1, 3]>(i)  u = Transpose<perm = [0, 2, 3, 1]>(j)  v = Transpose<perm = [0, 2, 1, 3]>(k)
  a = MatMul(q, u)  b = Div(a, r)  c = Softmax(b)  o = MatMul(c, v)  p = Transpose<perm = [0, 2, 1, 3]>(o)  y = Reshape(p, t) }"""
HALF = "h = Mul(q, s)  l = Mul(s, k)  a = MatMul(h, l)  c = Softmax(a)  y = MatMul(c, v) }"

FIRES = {
    "four axes": Example(PLAIN, {"Attention": 1, "Transpose": 1}, opset=23),
    "a mask": Example(ROWS, {"Attention": 1, "Transpose": 1}, opset=23),
    "a mask for all tokens": Example(MASKED, {"Attention": 1, "Transpose": 1, "Expand": 1}, opset=23),
    "half the scale on each side": Example(PLAIN.split("{ a")[0] + "{ " + HALF, {"Attention": 1, "Transpose": 1}, opset=23),
    "a scale beside it": Example(
        "(float[3,2,5,3] q, float[3,2,6,3] k, float[3,2,6,4] v) => (float[3,2,5,4] y) <float s = {0.5}> "
        "{ h = Mul(q, s)  l = Mul(k, s)  y = Attention<scale = 2.0>(h, l, v) }", {"Attention": 1}, opset=23,
    ),
    "heads of three axes beside it": Example(
        HEADS.replace("perm = [0, 2, 3, 1]", "perm = [0, 2, 1, 3]").replace("a = MatMul(q, u)  b = Div(a, r)  c = Softmax(b)  o = MatMul(c, v)", "o = Attention<scale = 0.5>(q, u, v)"),
        {"Attention": 1, "Neg": 1, "Abs": 1}, opset=23,
    ),
    "cut heads": Example(HEADS, {"Attention": 1, "Neg": 1, "Abs": 1}, opset=23),
    "cut heads, turned in two": Example(
        HEADS.replace("u = Transpose<perm = [0, 2, 3, 1]>(j)", "w = Transpose<perm = [0, 2, 1, 3]>(j)  u = Transpose<perm = [0, 1, 3, 2]>(w)"),
        {"Attention": 1, "Neg": 1, "Abs": 1}, opset=23,
    ),
}  # fmt: skip
STAYS = {
    "a mask of one column": Example(MASKED.split("m = {")[0].replace("[1,1,1,6]", "[1,1,5,1]") + "m = {0, 1, 2, 3, 4}>" + MASKED.split(">", 2)[2], opset=23),
    "a mask that callers give": Example(MASKED.split(", float[1,1,1,6]")[0].replace("v)", "v, float[1,1,5,6] m)") + ">" + MASKED.split(">", 2)[2], opset=23),
    "a mask of which a row hides all": Example(ROWS.replace("0, -1, -1e30", ", ".join(3 * [LOWEST])).replace("2, 0}", ", ".join(2 * [LOWEST]) + "}"), opset=23),
    "softmax over another axis": Example(PLAIN.replace("Softmax(b)", "Softmax<axis = 2>(b)"), opset=23),
    "a scale by head": Example(PLAIN.replace("float s = {0.5}", "float[2,1,1] s = {0.5, 0.6}"), opset=23),
    "a negative scale": Example(PLAIN.replace("{0.5}", "{-0.5}"), opset=23),
    "heads that are broadcast": Example(PLAIN.replace("float[3,2,3,6] k", "float[3,1,3,6] k"), opset=23),
    "weights that are used twice": Example(PLAIN.replace("y = MatMul(c, v)", "d = MatMul(c, v)  e = ReduceSum<keepdims = 0>(c)  y = Add(d, e)"), opset=23),
    "an older opset": Example(PLAIN, opset=22),
}  # fmt: skip

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("attention", FIRES, STAYS)
