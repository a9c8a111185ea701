"""Layouts around linear layers."""

from tests.graph.passes.proof import Example, checks

NUMBERS = "{" + ", ".join(str(i % 7 / 4 - 0.5) for i in range(24)) + "}"
DOWN = """(float[n,3,4] x) => (float[n,2,3,3] y) <float[4,6] w = {W}, float[6] b = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}, int64[4] s = {3, 0, 2, 3}>
{ t = Transpose<perm = [1, 0, 2]>(x)  m = MatMul(t, w)  a = Add(m, b)  r = Reshape(a, s)  y = Transpose<perm = [1, 2, 0, 3]>(r) }"""
DOWN = DOWN.replace("{W}", NUMBERS)
UP = """(float[n,2,3,2] x) => (float[n,3,6] y) <float[6,4] w = {W}, float[6] b = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}, int64[2] s = {-1, 4}, int64[3] u = {3, -1, 6}>
{ t = Transpose<perm = [2, 0, 1, 3]>(x)  r = Reshape(t, s)  m = Gemm<transB = 1>(r, w, b)  a = Reshape(m, u)  y = Transpose<perm = [1, 0, 2]>(a) }"""
UP = UP.replace("{W}", NUMBERS)

FIRES = {
    "after it": Example(DOWN, {"MatMul": 1, "Add": 1, "Reshape": 1, "Transpose": 1}),
    "without bias": Example(
        DOWN.replace("a = Add(m, b)  r = Reshape(a", "r = Reshape(m"), {"MatMul": 1, "Reshape": 1, "Transpose": 1}
    ),
    "before it, from rows": Example(UP, {"MatMul": 1, "Add": 1, "Reshape": 1, "Transpose": 1}),
}
STAYS = {
    "a bias of another axis": Example(DOWN.replace("float[6] b = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}", "float[3,1,1] b = {1.0, 2.0, 3.0}")),
    "a scaled Gemm": Example(UP.replace("<transB = 1>", "<transB = 1, alpha = 0.5>")),
    "the last axis moves before and after": Example(
        DOWN.replace("[1, 0, 2]", "[1, 2, 0]").replace("float[n,3,4] x", "float[4,3,n] x").replace("Transpose<perm = [1, 2, 0]>(x)", "Transpose<perm = [2, 1, 0]>(x)").replace("{3, 0, 2, 3}", "{-1, 3, 2, 3}").replace("[1, 2, 0, 3]", "[0, 2, 1, 3]")
    ),
    "used in between": Example(DOWN.replace("(float[n,2,3,3] y)", "(float[n,2,3,3] y, float[3,n,6] z)").replace(" }", "  z = Neg(a) }")),
}  # fmt: skip

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("linear_layout", FIRES, STAYS)
