"""A branch that the rest of the model cannot take."""

from tests.graph.passes.proof import Example, checks

SQUEEZE = """(float[n,1,3] x) => (float[1,n,2] y)
<float[1,8,3] w = {W}, float[1,8,2] r = {R}, int64[1] at = {1}, int64[1] front = {0}, int64[1] one = {1}> {
 h = Relu(x)  s = Shape(z)  d = Gather(s, at)  q = Equal(d, one)
 b = If(q)<then_branch = t () => (float[n,3] u) { u = Squeeze(h, at) }, else_branch = e () => (float[n,k,3] v) { v = Identity(h) }>
 c = Unsqueeze(b, front)
 o, y = LSTM<hidden_size = 2>(c, w, r) }"""
SQUEEZE = SQUEEZE.replace("{W}", "{" + ", ".join(["0.5"] * 24) + "}").replace(
    "{R}", "{" + ", ".join(["0.25"] * 16) + "}"
)
SQUEEZE = SQUEEZE.replace("(float[n,1,3] x)", "(float[n,k,3] x, float[a,b,c] z)")

FIRES = {
    "an LSTM takes three axes": Example(SQUEEZE, {"Relu": 1, "Squeeze": 1, "Unsqueeze": 1, "LSTM": 1}, sizes=(1, 1))
}
STAYS = {
    "both can be": Example(
        """(float[n,k,3] x, float[a,b,c] z) => (float y) <int64[1] at = {1}, int64[1] one = {1}> {
         s = Shape(z)  d = Gather(s, at)  q = Equal(d, one)
         b = If(q)<then_branch = t () => (float[n,3] u) { u = Squeeze(x, at) }, else_branch = e () => (float[n,k,3] v) { v = Identity(x) }>
         y = ReduceSum<keepdims = 0>(b) }""", sizes=(1, 1),
    ),
    "an operator that is not looked at": Example(
        """(float[n,1,4] x, float[a] z) => (float[b,c,d] y) <int64[1] at = {1}, int64[1] seven = {7}> {
         s = Shape(z)  q = Equal(s, seven)
         h = If(q)<then_branch = t () => (float[n,4] u) { u = Squeeze(x, at) }, else_branch = e () => (float[n,1,4] v) { v = Neg(x) }>
         y = Transpose<perm = [2, 0, 1]>(h) }""",
    ),
    "a Gemm that takes one axis": Example(
        """(float[n,4] x, float[a] z) => (float[b,c] y) <int64[1] at = {0}, int64[1] one = {1}, float[4,2] w = {1, 2, 3, 4, 5, 6, 7, 8}> {
         s = Shape(z)  q = Equal(s, one)
         h = If(q)<then_branch = t () => (float[d] u) { u = Squeeze(x, at) }, else_branch = e () => (float[n,4] v) { v = Neg(x) }>
         y = Gemm(h, w) }""", sizes=(1, 1),
    ),
}  # fmt: skip

test_rewrites, _, test_leaves_alone = checks("failing_branch", FIRES, STAYS)
