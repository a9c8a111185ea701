"""What comes before a weighted operator goes into its weights."""

from tests.graph.passes.proof import Example, checks

NUMBERS = "{" + ", ".join(f"{(i * 7 % 11) / 10 - 0.5}" for i in range(36)) + "}"
CONV = """(float[n,4,5,5] x) => (float[n,2,f,f] y)
<float[2,2,3,3] w = {W}, float[2] k = {1.0, 2.0}, float[4,1,1] q = {1.0, 0.5, 2.0, 3.0}, float[4,1,1] r = {0.5, 1.0, 2.0, 3.0}>
{ s = Mul(x, q)  t = Add(s, r)  y = Conv<group = 2>(t, w, k) }""".replace("{W}", NUMBERS)
PADDED = CONV.replace("Conv<group = 2>", "Conv<group = 2, pads = [1, 1, 1, 1]>")
GEMM = """(float[n,3] x) => (float[n,2] y)
<float[2,3] w = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}, float[2] k = {1.0, 2.0}, float[3] q = {0.5, 2.0, 1.0}, float r = {2.0}>
{ s = Div(x, q)  t = Add(s, r)  y = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(t, w, k) }"""
MATMUL = """(float[n,5,3] x) => (float[n,5,2] y)
<float[3,2] w = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}, float[3] q = {0.5, 2.0, 3.0}> { s = Mul(x, q)  y = MatMul(s, w) }"""

FIRES = {
    "scale and shift before Conv": Example(CONV, {"Conv": 1}),
    "without bias": Example(CONV.replace("(t, w, k)", "(t, w)"), {"Conv": 1}),
    "scale and shift before a padded Conv": Example(PADDED, {"Conv": 1, "Add": 1}),
    "scale before a padded Conv": Example(
        PADDED.replace("t = Add(s, r)  y = Conv", "y = Conv").replace("(t, w, k)", "(s, w, k)"), {"Conv": 1}
    ),
    "scale and shift before Gemm": Example(GEMM, {"Gemm": 1}),
    "scale before MatMul": Example(MATMUL, {"MatMul": 1}),
}
STAYS = {
    "a scale that adds an axis": Example(
        "(float[3] x) => (float[1,2] y) <float[3,2] w = {1, 2, 3, 4, 5, 6}, float[1,3] q = {0.5, 2, 3}> { s = Mul(x, q)  y = MatMul(s, w) }"
    ),
    "a scale that adds an axis before a shift": Example(
        PADDED.replace("float[n,4,5,5] x", "float[4,5,5] x").replace("float[4,1,1] q", "float[1,4,1,1] q")
    ),
    "shift before a padded Conv": Example(PADDED.replace("s = Mul(x, q)  t = Add(s, r)", "t = Add(x, r)")),
    "shift far beyond its scale": Example(PADDED.replace("q = {1.0,", "q = {0.0001,")),
    "a scale of zero before a shift": Example(PADDED.replace("q = {1.0,", "q = {0.0,")),
    "padded by name": Example(
        CONV.replace("s = Mul(x, q)  t = Add(s, r)", "t = Add(x, r)").replace("<group = 2>", '<group = 2, auto_pad = "SAME_UPPER">')
    ),
    "shift before MatMul": Example(MATMUL.replace("Mul(x, q)", "Add(x, q)")),
    "by another axis": Example(MATMUL.replace("float[3] q = {0.5, 2.0, 3.0}", "float[5,1] q = {0.5, 2.0, 3.0, 1.0, 2.0}")),
    "weights of two": Example(MATMUL.replace("y = MatMul(s, w)", "z = MatMul(x, w)  t = MatMul(s, w)  y = Sub(t, z)")),
}  # fmt: skip

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("affine_before", FIRES, STAYS)
