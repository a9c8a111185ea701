"""Gelu in its exact and its tanh form."""

from tests.graph.passes.proof import Example, checks

ERF = """(float[n,4] x) => (float[n,4] y)
<float root = {1.41421356}, float one = {1.0}, float half = {0.5}>
{ s = Div(x, root)  e = Erf(s)  p = Add(e, one)  m = Mul(x, p)  y = Mul(m, half) }"""
TANH = """(float[n,4] x) => (float[n,4] y)
<float three = {3.0}, float c = {0.044715}, float root = {0.7978845608}, float one = {1.0}, float half = {0.5}>
{ p = Pow(x, three)  q = Mul(c, p)  s = Add(x, q)  r = Mul(root, s)  t = Tanh(r)  o = Add(one, t)
  h = Mul(half, x)  y = Mul(h, o) }"""

FIRES = {
    "erf": Example(ERF, {"Gelu": 1}, special=True),
    "half first": Example(
        ERF.replace("m = Mul(x, p)  y = Mul(m, half)", "m = Mul(half, p)  y = Mul(m, x)"), {"Gelu": 1}
    ),
    "tanh": Example(TANH, {"Gelu": 1}),
}
STAYS = {
    "numbers that add an axis": Example(
        ERF.replace("[n,4] x", " x").replace("[n,4] y", "[1] y").replace("float root", "float[1] root")
    ),
    "another root": Example(ERF.replace("1.41421356", "1.5")),
    "not one": Example(ERF.replace("float one = {1.0}", "float one = {0.9}")),
    "not a half": Example(ERF.replace("float half = {0.5}", "float half = {0.6}")),
    "another x": Example(ERF.replace("s = Div(x, root)", "z = Neg(x)  s = Div(z, root)")),
    "an older opset": Example(ERF, opset=19),
}

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("gelu", FIRES, STAYS)
