"""RMSNormalization from a mean of squares and a root."""

from tests.graph.passes.proof import Example, checks

NORM = """(float[n,3,4] x) => (float[n,3,4] y)
<float two = {2.0}, float eps = {0.00001}, int64[1] axis = {-1}, float[4] g = {1.0, 2.0, 3.0, 4.0}>
{ p = Pow(x, two)  v = ReduceMean(p, axis)  w = Add(v, eps)  s = Sqrt(w)  q = Div(x, s)  y = Mul(g, q) }"""
TIMES = NORM.replace("q = Div(x, s)", "r = Reciprocal(s)  q = Mul(x, r)")
ONE = {"RMSNormalization": 1}

FIRES = {
    "gamma": Example(NORM, ONE, opset=23),
    "times the reciprocal": Example(TIMES, ONE, opset=23),
    "times one divided by it": Example(
        NORM.replace("q = Div(x, s)", "r = Div(one, s)  q = Mul(x, r)").replace(
            "<float two", "<float one = {1.0}, float two"
        ),
        ONE,
        opset=23,
    ),
    "gamma with axes of size 1": Example(NORM.replace("float[4] g", "float[1,1,4] g"), ONE, opset=23),
    "squared by itself": Example(TIMES.replace("Pow(x, two)", "Mul(x, x)"), ONE, opset=23),
    "the last axis by its number": Example(NORM.replace("axis = {-1}", "axis = {2}"), ONE, opset=23),
    "without gamma": Example(NORM.replace("y = Mul(g, q)", "y = Identity(q)"), ONE | {"Identity": 1}, opset=23),
    "gamma that adds an axis": Example(
        NORM.replace("float[4] g", "float[1,1,1,4] g").replace("[n,3,4] y", "[1,n,3,4] y"), ONE | {"Mul": 1}, opset=23
    ),
    "gamma of another size": Example(
        NORM.replace("float[4] g = {1.0, 2.0, 3.0, 4.0}", "float g = {2.0}"), ONE | {"Mul": 1}, opset=23
    ),
}
STAYS = {
    "times two divided by it": Example(NORM.replace("q = Div(x, s)", "r = Div(two, s)  q = Mul(x, r)"), opset=23),
    "another axis": Example(NORM.replace("axis = {-1}", "axis = {1}"), opset=23),
    "another power": Example(NORM.replace("two = {2.0}", "two = {4.0}"), opset=23),
    "the square of something else": Example(NORM.replace("p = Pow(x, two)", "z = Neg(x)  p = Pow(z, two)"), opset=23),
    "what is divided is another": Example(NORM.replace("Div(x, s)", "Div(p, s)"), opset=23),
    "an older opset": Example(NORM, opset=22),
}

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("rms_norm", FIRES, STAYS)
