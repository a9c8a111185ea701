"""What comes after a weighted operator goes into its weights."""

from tests.graph.passes.proof import Example, checks

CONV = """(float[n,2,5,5] x) => (float[n,4,f,f] y)
<float[4,1,3,3] w = {W}, float[4] k = {1.0, 2.0, 3.0, 4.0}, float[4] g = {1.0, 0.5, 2.0, 1.0}, float[4] b = {0.0, 1.0, 2.0, 3.0},
 float[4] m = {0.1, 0.2, 0.3, 0.4}, float[4] v = {1.0, 0.5, 0.7, 2.0}>
{ c = Conv<group = 2>(x, w, k)  y = BatchNormalization(c, g, b, m, v) }""".replace(
    "{W}", "{" + ", ".join(f"{(i * 7 % 11) / 10 - 0.5}" for i in range(36)) + "}"
)
TRANSPOSED = CONV.replace("float[4,1,3,3] w", "float[2,2,3,3] w").replace("Conv<", "ConvTranspose<")
SCALED = CONV.replace("y = BatchNormalization(c, g, b, m, v)", "s = Mul(q, c)  y = Sub(s, r)").replace(
    "<float", "<float[4,1,1] q = {1.0, 2.0, 0.5, 1.5}, float r = {0.25}, float", 1
)
GEMM = """(float[n,3] x) => (float[n,2] y)
<float[2,3] w = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}, float[2] k = {1.0, 2.0}, float[2] q = {0.5, 2.0}, float[1,2] r = {1.0, 3.0}>
{ c = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, w, k)  s = Div(c, q)  y = Add(s, r) }"""
MATMUL = """(float[n,5,3] x) => (float[n,5,2] y)
<float[3,2] w = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}, float[2] q = {0.5, 2.0}> { c = MatMul(x, w)  y = Mul(c, q) }"""
NORMS = """(float[n,2,3] x) => (float[n,2,3] y)
<float[2] g = {1.0, 0.5}, float[2] b = {0.0, 1.0}, float[2] m = {0.1, 0.2}, float[2] v = {1.0, 0.5},
 float[2,1] q = {0.5, 2.0}, float[1,2,1] r = {1.0, 3.0}>
{ c = BatchNormalization(x, g, b, m, v)  s = Mul(c, q)  y = Add(s, r) }"""

FIRES = {
    "batch norm after Conv": Example(CONV, {"Conv": 1}),
    "batch norm after ConvTranspose": Example(TRANSPOSED, {"ConvTranspose": 1}),
    "scale and shift after Conv": Example(SCALED, {"Conv": 1}),
    "Conv without bias": Example(CONV.replace("(x, w, k)", "(x, w)"), {"Conv": 1}),
    "scale and shift after Gemm": Example(GEMM, {"Gemm": 1}),
    "Gemm without bias": Example(GEMM.replace("(x, w, k)", "(x, w)"), {"Gemm": 1}),
    "scale after MatMul": Example(MATMUL, {"MatMul": 1}),
    "scale and shift after batch norm": Example(NORMS, {"BatchNormalization": 1}),
}
STAYS = {
    "shift after MatMul": Example(MATMUL.replace("Mul(c, q)", "Add(c, q)")),
    "by another axis": Example(NORMS.replace("s = Mul(c, q)  y = Add(s, r)", "y = Mul(c, z)").replace("<float", "<float[3] z = {1.0, 2.0, 3.0}, float", 1)),
    "weights of two": Example(MATMUL.replace("y = Mul(c, q)", "d = MatMul(x, w)  e = Mul(c, q)  y = Sub(e, d)")),
    "in training": Example(
        CONV.replace("y = BatchNormalization(", "y, o, p = BatchNormalization<training_mode = 1>("), sizes=(3,)
    ),
    "widens a channel": Example(
        "(float[n,3] x) => (float[n,2] y) <float[3,1] w = {1.0, 2.0, 3.0}, float[2] q = {1.0, 2.0}> "
        "{ c = MatMul(x, w)  y = Mul(c, q) }"
    ),
    "not finite": Example(MATMUL.replace("q = {0.5, 2.0}", "q = {0.5, 0.0}").replace("Mul(c, q)", "Div(c, q)")),
    "batch norm of each place": Example(
        """(float[n,2,1] x) => (float[n,2,1] y) <float[2,2,1] w = {1, 2, 3, 4}, float[2,1] g = {1, 2}, float[2,1] b = {0, 1}>
        { c = Conv(x, w)  y = BatchNormalization<spatial = 0>(c, g, b, g, g) }""", opset=8,
    ),
    "a scale after a batch norm of each place": Example(
        """(float[n,2,1] x) => (float[n,2,1] y) <float[2,1] q = {3, 4}, float[2,1] g = {1, 2}, float[2,1] b = {0, 1}>
        { c = BatchNormalization<spatial = 0>(x, g, b, g, g)  y = Mul(c, q) }""", opset=8,
    ),
}  # fmt: skip

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("affine_after", FIRES, STAYS)
