"""Identity and Dropout outside of training."""

from tests.graph.passes.proof import Example, checks

FIRES = {
    "a chain": Example("(float[n,2] x) => (float[n,2] y) { a = Identity(x)  b = Identity(a)  y = Neg(b) }", {"Neg": 1}),
    "before an output": Example("(float[n,2] x) => (float[n,2] y) { a = Neg(x)  y = Identity(a) }", {"Neg": 1}),
    "Dropout": Example("(float[n,2] x) => (float[n,2] y) { a = Dropout(x)  y = Neg(a) }", {"Neg": 1}),
    "Dropout told so": Example(
        "(float[n,2] x) => (float[n,2] y) <float r = {0.5}, bool t = {0}> { a = Dropout(x, r, t)  y = Neg(a) }",
        {"Neg": 1},
    ),
}
STAYS = {
    "an input as output": Example("(float[n,2] x) => (float[n,2] y) { y = Identity(x) }"),
    "a constant as output": Example("(float[n] x) => (float[n] z, float[2] y) <float[2] c = {1.0, 2.0}> { z = Neg(x)  y = Identity(c) }"),
    "two outputs": Example("(float[n,2] x) => (float[n,2] y, float[n,2] z) { y = Neg(x)  z = Identity(y) }"),
    "a mask that is read": Example("(float[n,2] x) => (float[n,2] y, bool[n,2] m) { a, m = Dropout(x)  y = Neg(a) }"),
    "training": Example(
        "(float[n,2] x) => (float[n,2] y) <float r = {0.0}, bool t = {1}> { a = Dropout(x, r, t)  y = Neg(a) }"
    ),
}  # fmt: skip

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("identity", FIRES, STAYS)
