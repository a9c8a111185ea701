"""Mish from softplus and tanh."""

from tests.graph.passes.proof import Example, checks

MISH = "(float[n,3] x) => (float[n,3] y) { a = Softplus(x)  b = Tanh(a)  y = Mul(x, b) }"

FIRES = {
    "as it is written": Example(MISH, {"Mish": 1}, opset=18),
    "in the other order": Example(MISH.replace("Mul(x, b)", "Mul(b, x)"), {"Mish": 1}, opset=22),
}
STAYS = {
    "of another value": Example(MISH.replace("a = Softplus(x)", "z = Neg(x)  a = Softplus(z)"), opset=18),
    "another function": Example(MISH.replace("Tanh", "Sigmoid"), opset=18),
    "used elsewhere": Example(MISH.replace("y = Mul(x, b)", "c = Mul(x, b)  y = Add(c, a)"), opset=18),
    "an older opset": Example(MISH, opset=17),
}

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("mish", FIRES, STAYS)
