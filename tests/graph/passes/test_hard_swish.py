"""HardSwish and HardSigmoid from a clip at 6."""

from tests.graph.passes.proof import Example, checks

CLIP = """(float[n,4] x) => (float[n,4] y)
<float three = {3.0}, float zero = {0.0}, float six = {6.0}>
{ s = Add(x, three)  c = Clip(s, zero, six)  m = Mul(x, c)  y = Div(m, six) }"""
GATE = """(float[n,4] x) => (float[n,4] y)
<float three = {3.0}, float zero = {0.0}, float six = {6.0}>
{ s = Add(x, three)  c = Clip(s, zero, six)  y = Div(c, six) }"""
SIGMOID = "(float[n,4] x) => (float[n,4] y) { c = HardSigmoid<alpha = 0.1666667, beta = 0.5>(x)  y = Mul(c, x) }"
WIDE = {"low": -6.0, "high": 6.0}

FIRES = {
    "product, then sixth": Example(CLIP, {"HardSwish": 1}, **WIDE, special=True),
    "sixth first": Example(
        CLIP.replace("m = Mul(x, c)  y = Div(m, six)", "m = Div(c, six)  y = Mul(m, x)"), {"HardSwish": 1}, **WIDE
    ),
    "by HardSigmoid": Example(SIGMOID, {"HardSwish": 1}, **WIDE, special=True),
    "the gate alone": Example(GATE, {"HardSigmoid": 1}, **WIDE, special=True),
}
STAYS = {
    "another slope": Example(SIGMOID.replace("0.1666667", "0.2")),
    "another offset": Example(CLIP.replace("three = {3.0}", "three = {2.5}"), **WIDE),
    "another bound": Example(CLIP.replace("zero = {0.0}", "zero = {1.0}"), **WIDE),
    "another x": Example(SIGMOID.replace("y = Mul(c, x)", "z = Neg(x)  y = Mul(c, z)"), **WIDE),
    "an older opset": Example(CLIP, opset=13),
    "double precision": Example(CLIP.replace("float", "double"), **WIDE),
    "the gate in double precision": Example(GATE.replace("float", "double"), opset=22, **WIDE),
    "whole numbers": Example(CLIP.replace("float", "int32").replace(".0}", "}")),
    "the gate of whole numbers": Example(GATE.replace("float", "int32").replace(".0}", "}")),
}

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("hard_swish", FIRES, STAYS)
