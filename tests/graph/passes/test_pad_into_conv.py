"""Pad before Conv."""

from tests.graph.passes.proof import Example, checks

PADDED = """(float[n,1,4] x) => (float[n,2,m] y) <float[2,1,3] w = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}, int64[6] p = {0, 0, 1, 0, 0, 2}, float v = {0.0}>
{ a = Pad(x, p, v)  y = Conv<pads = [1, 0]>(a, w) }"""

FIRES = {
    "zeros": Example(PADDED, {"Conv": 1}),
    "nothing said": Example(PADDED.replace("Pad(x, p, v)", "Pad(x, p)").replace("<pads = [1, 0]>", ""), {"Conv": 1}),
}
STAYS = {
    "ones": Example(PADDED.replace("v = {0.0}", "v = {1.0}")),
    "mirrored": Example(PADDED.replace("Pad(x, p, v)", 'Pad<mode = "reflect">(x, p)')),
    "channels": Example(PADDED.replace("p = {0, 0, 1", "p = {1, 0, 1").replace("[n,2,m]", "[k,2,m]")),
    "cropped": Example(PADDED.replace("p = {0, 0, 1", "p = {0, 0, -1")),
    "padded by name": Example(PADDED.replace("pads = [1, 0]", 'auto_pad = "SAME_UPPER"')),
    "used twice": Example(PADDED.replace("y = Conv<pads = [1, 0]>(a, w)", "b = Conv(a, w)  c = Conv<pads = [0, 0]>(a, w)  y = Sub(b, c)")),
}  # fmt: skip

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("pad_into_conv", FIRES, STAYS)
