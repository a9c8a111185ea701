"""Operators that do nothing by their constants."""

from tests.graph.passes.proof import Example, checks


def one(operator: str, constants: str = "", shape: str = "n,3") -> Example:
    """The operator between two others, so that neither end is an input or output."""
    return Example(f"(float[{shape}] x) => (float[{shape}] y) {constants} {{ a = Neg(x)  b = {operator}  y = Abs(b) }}")


def gone(operator: str, constants: str = "", shape: str = "n,3", **kept: int) -> Example:
    example = one(operator, constants, shape)
    return Example(example.text, {"Neg": 1, "Abs": 1, **kept}, special=True)


ENDS = "<int64[2] s = {0, 0}, int64[2] e = {9223372036854775807, 3}, int64[2] a_ = {0, 1}>"
FIRES = {
    "Transpose in order": gone("Transpose<perm = [0, 1]>(a)"),
    "Concat of one": gone("Concat<axis = 0>(a)"),
    "Pad by nothing": gone("Pad(a, p)", "<int64[4] p = {0, 0, 0, 0}>"),
    "Cast to its type": gone("Cast<to = 1>(a)"),
    "Slice of all": gone("Slice(a, s, e, a_)", ENDS),
    "times one": gone("Mul(k, a)", "<float k = {1.0}>"),
    "by one": gone("Div(a, k)", "<float[1,1] k = {1.0}>"),
    "plus nothing": gone("Add(a, k)", "<float k = {0.0}>"),
    "minus nothing": gone("Sub(a, k)", "<float[1] k = {0.0}>"),
    "to the first": gone("Pow(a, k)", "<float k = {1.0}>"),
    "the largest of one": gone("Max(a)"),
}
STAYS = {
    "Transpose": one("Transpose<perm = [1, 0]>(a)", "", "3,3"),
    "Pad": one("Pad(a, p)", "<int64[4] p = {0, 1, 0, -1}>"),
    "Cast to another type and back": Example(
        "(float[n,3] x) => (float16[n,3] y) { a = Neg(x)  b = Cast<to = 10>(a)  y = Abs(b) }"
    ),
    "Slice that turns around": one("Slice(a, s, e, x_, t)", "<int64[1] s = {2}, int64[1] e = {-9}, int64[1] x_ = {1}, int64[1] t = {-1}>"),
    "Slice of a part": Example(
        "(float[n,3] x) => (float[n,2] y) <int64[1] s = {1}, int64[1] e = {9}, int64[1] q = {1}> { a = Neg(x)  b = Slice(a, s, e, q)  y = Abs(b) }"
    ),
    "times almost one": one("Mul(k, a)", "<float k = {1.0001}>"),
    "one by it": one("Div(k, a)", "<float k = {1.0}>"),
    "nothing minus it": one("Sub(k, a)", "<float k = {0.0}>"),
    "widens the rank": Example("(float[3] x) => (float[1,3] y) <float[1,1] k = {1.0}> { a = Neg(x)  b = Mul(k, a)  y = Abs(b) }"),
    "widens an axis": Example("(float[n,1] x) => (float[n,3] y) <float[3] k = {1.0, 1.0, 1.0}> { a = Neg(x)  b = Mul(k, a)  y = Abs(b) }"),
}  # fmt: skip

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("no_op", FIRES, STAYS)
