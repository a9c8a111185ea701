"""LayerNormalization from means and a root."""

from tests.graph.passes.proof import Example, checks

NORM = """(float[n,3,4] x) => (float[n,3,4] y)
<float two = {2.0}, float eps = {0.00001}, float[4] g = {1.0, 2.0, 3.0, 4.0}, float[4] b = {0.5, 0.0, 1.0, 2.0}>
{ m = ReduceMean<axes = [-1]>(x)  d = Sub(x, m)  p = Pow(d, two)  v = ReduceMean<axes = [-1]>(p)  w = Add(v, eps)
  s = Sqrt(w)  q = Div(d, s)  o = Mul(q, g)  y = Add(o, b) }"""
BARE = NORM.replace("o = Mul(q, g)  y = Add(o, b)", "y = Identity(q)")
NEWER = NORM.replace("<axes = [-1]>(x)", "(x, axis)").replace("<axes = [-1]>(p)", "(p, axis)")
NEWER = NEWER.replace("<float two", "<int64[1] axis = {-1}, float two")

FIRES = {
    "gamma and beta": Example(NORM, {"LayerNormalization": 1}, opset=17),
    "axes as inputs": Example(NEWER, {"LayerNormalization": 1}, opset=18),
    "the last axis by its number": Example(NORM.replace("[-1]", "[2]"), {"LayerNormalization": 1}, opset=17),
    "without gamma": Example(BARE, {"LayerNormalization": 1, "Identity": 1}, opset=17),
    "without beta": Example(
        NORM.replace("o = Mul(q, g)  y = Add(o, b)", "y = Mul(g, q)"), {"LayerNormalization": 1}, opset=17
    ),
    "squared by itself": Example(NORM.replace("Pow(d, two)", "Mul(d, d)"), {"LayerNormalization": 1}, opset=17),
    "times the reciprocal": Example(
        NORM.replace("q = Div(d, s)", "r = Reciprocal(s)  q = Mul(d, r)"), {"LayerNormalization": 1}, opset=17
    ),
    "times one divided by it": Example(
        NORM.replace("q = Div(d, s)", "r = Div(one, s)  q = Mul(d, r)").replace("<float two", "<float one = {1.0}, float two"),
        {"LayerNormalization": 1}, opset=17,
    ),
    "gamma and beta with axes of size 1": Example(
        NORM.replace("float[4] g", "float[1,1,4] g").replace("float[4] b", "float[1,4] b"), {"LayerNormalization": 1}, opset=17
    ),
    "gamma of another size": Example(
        NORM.replace("float[4] g = {1.0, 2.0, 3.0, 4.0}", "float g = {2.0}"),
        {"LayerNormalization": 1, "Mul": 1, "Add": 1}, opset=17,
    ),
}  # fmt: skip
STAYS = {
    "nothing along the last axis": Example(
        NORM.replace("[n,3,4]", "[n,3,0]")
        .replace("[4] g = {1.0, 2.0, 3.0, 4.0}", " g = {1.0}")
        .replace("[4] b = {0.5, 0.0, 1.0, 2.0}", " b = {1.0}"),
        opset=17,
    ),
    "times two divided by it": Example(NORM.replace("q = Div(d, s)", "r = Div(two, s)  q = Mul(d, r)"), opset=17),
    "another axis": Example(NORM.replace("[-1]", "[1]"), opset=17),
    "two axes": Example(NORM.replace("[-1]", "[1, 2]"), opset=17),
    "another power": Example(NORM.replace("two = {2.0}", "two = {4.0}"), opset=17),
    "the mean of something else": Example(
        NORM.replace("m = Red", "z = Neg(x)  m = Red").replace(">(x)", ">(z)"), opset=17
    ),
    "variance over another axis": Example(
        NORM.replace("v = ReduceMean<axes = [-1]>", "v = ReduceMean<axes = [1]>"), opset=17
    ),
    "an older opset": Example(NORM, opset=16),
}

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("layer_norm", FIRES, STAYS)
