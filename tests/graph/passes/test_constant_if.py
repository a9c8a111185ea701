"""If with a constant condition."""

from tests.graph.passes.proof import Example, checks

BOTH = """(float[n,2] x) => (float[n,2] y) <bool c = {1}> {
 a = Relu(x)
 b = If(c)<then_branch = t () => (float[n,2] u) { v = Neg(a)  u = Abs(v) }, else_branch = e () => (float[n,2] w) { w = Exp(a) }>
 y = Sqrt(b) }"""

FIRES = {
    "then": Example(BOTH, {"Relu": 1, "Neg": 1, "Abs": 1, "Sqrt": 1}),
    "else": Example(BOTH.replace("{1}", "{0}"), {"Relu": 1, "Exp": 1, "Sqrt": 1}),
    "as an output": Example(
        BOTH.replace("b = If", "y = If").replace("y = Sqrt(b)", ""), {"Relu": 1, "Neg": 1, "Abs": 1}
    ),
    "a branch that gives an outer value": Example(
        BOTH.replace("v = Neg(a)  u = Abs(v)", "u = Identity(a)"), {"Relu": 1, "Identity": 1, "Sqrt": 1}
    ),
}
STAYS = {
    "an input": Example(BOTH.replace("(float[n,2] x)", "(float[n,2] x, bool c)").replace("<bool c = {1}>", "")),
    "a default": Example(BOTH.replace("(float[n,2] x)", "(float[n,2] x, bool c)")),
}

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("constant_if", FIRES, STAYS)
