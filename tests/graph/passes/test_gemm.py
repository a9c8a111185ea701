"""MatMul with a bias, and transposed operands."""

from tests.graph.passes.proof import Example, checks

PLAIN = """(float[n,3] x) => (float[n,2] y) <float[3,2] w = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}, float[2] b = {1.0, 2.0}>
{ a = MatMul(x, w)  y = Add(b, a) }"""

FIRES = {
    "a vector": Example(PLAIN, {"Gemm": 1}),
    "a row": Example(PLAIN.replace("float[2] b", "float[1,2] b"), {"Gemm": 1}),
    "a transposed operand": Example(
        "(float[3,n] x, float[3,4] w) => (float[n,4] y) { t = Transpose(x)  y = Gemm<beta = 0.5>(t, w) }", {"Gemm": 1}
    ),
    "transposed twice": Example(
        "(float[n,3] x, float[3,4] w) => (float[n,4] y) { t = Transpose(w)  y = Gemm<transB = 1>(x, t) }", {"Gemm": 1}
    ),
}
STAYS = {
    "a column": Example(PLAIN.replace("(float[n,3] x)", "(float[2,3] x)").replace("float[n,2] y", "float[2,2] y").replace("float[2] b", "float[2,1] b")),
    "more axes": Example(PLAIN.replace("float[n,3] x", "float[n,5,3] x").replace("float[n,2] y", "float[n,5,2] y")),
    "widens": Example(PLAIN.replace("float[3,2] w", "float[6,1] w").replace("float[n,3] x", "float[n,6] x")),
    "used twice": Example(PLAIN.replace("(float[n,2] y)", "(float[n,2] y, float[n,2] z)").replace(" }", "  z = Neg(a) }")),
    "whole numbers": Example("(int32[n,3] x, int32[3,2] w) => (int32[n,2] y) <int32[2] b = {1, 2}> { a = MatMul(x, w)  y = Add(a, b) }"),
}  # fmt: skip

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("gemm", FIRES, STAYS)
