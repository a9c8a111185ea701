"""A Split before layouts."""

from tests.graph.passes.proof import Example, checks

QKV = """(float[n,5,12] x) => (float[n,2,5,2] p, float[n,2,2,5] q, float[n,5,2,2] r)
<int64[4] s = {0, 5, 3, 4}, int64[3] k = {1, 1, 1}, int64[4] u = {-1, 5, 2, 2}> {
 a = Reshape(x, s)  b = Transpose<perm = [2, 0, 1, 3]>(a)  c, d, e = Split<axis = 0>(b, k)
 f = Reshape(c, u)  g = Reshape(d, u)  r = Reshape(e, u)
 p = Transpose<perm = [0, 2, 1, 3]>(f)  q = Transpose<perm = [0, 2, 3, 1]>(g) }"""

FIRES = {"queries, keys and values": Example(QKV, {"Split": 1, "Reshape": 3, "Transpose": 2}, special=True)}
STAYS = {
    "parts inside the axis": Example(
        QKV.replace("{0, 5, 3, 4}", "{0, 5, 4, 3}").replace("[2, 0, 1, 3]", "[3, 0, 1, 2]")
    ),
    "one part goes elsewhere": Example(QKV.replace("r = Reshape(e, u)", "h = Neg(e)  r = Reshape(h, u)")),
    "used before": Example(QKV.replace("float[n,2,2,5] q,", "float[n,2,2,5] q, float[3,n,5,4] z,").replace("f = Reshape", "z = Neg(b)  f = Reshape")),
}  # fmt: skip

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("split_layout", FIRES, STAYS)
