"""Initial states of zeros."""

import onnx_ir as ir

from rayopt.graph import passes
from tests.graph.passes.proof import Example, checks

LSTM = """(float[4,n,3] x) => (float[4,1,n,2] y)
<float[1,8,3] w = {W}, float[1,8,2] r = {R}, float zero = {0.0}, int64[1] at = {1}, int64[1] two = {2}, int64[1] one = {1}> {
 s = Shape(x)  d = Gather(s, at)  t = Concat<axis = 0>(one, d, two)  h = Expand(zero, t)
 y = LSTM<hidden_size = 2>(x, w, r, , , h, h) }"""
LSTM = LSTM.replace("{W}", "{" + ", ".join(["0.5"] * 24) + "}").replace("{R}", "{" + ", ".join(["0.25"] * 16) + "}")
LEFT = {"Shape": 1, "Gather": 1, "Concat": 1, "Expand": 1, "LSTM": 1}

FIRES = {
    "an expanded zero": Example(LSTM, LEFT),
    "ConstantOfShape": Example(
        LSTM.replace("Expand(zero, t)", "ConstantOfShape(t)"), LEFT | {"ConstantOfShape": 1, "Expand": 0}
    ),
}
FIRES["ConstantOfShape"].leaves.pop("Expand")  # type: ignore[attr-defined]
STAYS = {
    "ones": Example(LSTM.replace("zero = {0.0}", "zero = {1.0}")),
    "an input": Example(
        LSTM.replace("(float[4,n,3] x)", "(float[4,n,3] x, float zero)").replace("float zero = {0.0}, ", "")
    ),
    "a default": Example(LSTM.replace("(float[4,n,3] x)", "(float[4,n,3] x, float zero)")),
}


def test_zeros_that_are_doubled_again_and_again_end() -> None:
    doubled = "  ".join(
        f"d{at} = Concat<axis = 2>(c{at}, c{at})  c{at + 1} = Slice(d{at}, no, two, two)" for at in range(60)
    )
    text = LSTM.replace("h = Expand(zero, t)", f"c0 = Expand(zero, t)  {doubled}  h = Identity(c60)")
    model = Example(text.replace("float zero", "int64[1] no = {0}, float zero")).model()
    counts = passes.run(ir.from_proto(model), ["zero_state"], passes.Limits())
    assert counts == {"zero_state": 2}


test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("zero_state", FIRES, STAYS)
