"""Rewrites that only values at the edges give away are caught, and honest ones pass there as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from rayopt.errors import StepError
from rayopt.graph import passes
from rayopt.graph.difference import LEAST_EDGE_SCALE, difference
from rayopt.graph.edges import LOWEST
from rayopt.graph.inputs import feed
from rayopt.graph.proof import Reference
from rayopt.graph.steps import Steps
from rayopt.graph.widening import widen
from tests.graph.passes.proof import Example

FLOATS = "(float[n,4] x) => (float[n,4] y) "
WHOLE = "(int64[n,4] x) => (int64[n,4] y) "
WRONG = {
    "bounds": (FLOATS + "<float a = {-50.0}, float b = {50.0}> { y = Clip(x, a, b) }", FLOATS + "{ y = Identity(x) }"),
    "a guard of NaN": (
        FLOATS + "<float z = {0.0}> { c = IsNaN(x)  y = Where(c, z, x) }", FLOATS + "{ y = Identity(x) }",
    ),
    "softmax that overflows": (
        FLOATS + "{ y = Softmax(x) }",
        FLOATS + "<int64[1] a = {-1}> { e = Exp(x)  s = ReduceSum(e, a)  y = Div(e, s) }",
    ),
    "a guard of the logarithm": (
        FLOATS + "<float e = {1e-12}> { a = Abs(x)  b = Add(a, e)  y = Log(b) }", FLOATS + "{ a = Abs(x)  y = Log(a) }",
    ),
    "whole numbers below zero": (WHOLE + "{ y = Abs(x) }", WHOLE + "{ y = Identity(x) }"),
    "a bound of whole numbers": (WHOLE + "<int64 h = {50}> { y = Min(x, h) }", WHOLE + "{ y = Identity(x) }"),
    "a number just above the one it is compared with": (
        "(int64 k, float[n] x) => (float[n] y) <int64 h = {100}, float a = {2.0}, float b = {1.0}> "
        "{ c = Greater(k, h)  w = Where(c, a, b)  y = Mul(x, w) }",
        "(int64 k, float[n] x) => (float[n] y) { y = Identity(x) }",
    ),
    "an empty batch": (
        "(float[n,2,3] x) => (float[n,6] y) <int64[2] s = {-1, 6}> { y = Reshape(x, s) }",
        "(float[n,2,3] x) => (float[n,6] y) <int64[2] s = {0, -1}> { y = Reshape(x, s) }",
    ),
    "a mask that hides all": (
        "(float[2,1,5,3] q, float[2,1,3,6] k, float[2,1,6,4] v, float[5,6] m) => (float[2,1,5,4] y) "
        "{ a = MatMul(q, k)  b = Add(a, m)  c = Softmax(b)  y = MatMul(c, v) }",
        "(float[2,1,5,3] q, float[2,1,3,6] k, float[2,1,6,4] v, float[5,6] m) => (float[2,1,5,4] y) "
        "{ t = Transpose<perm = [0, 1, 3, 2]>(k)  y = Attention<scale = 1.0>(q, t, v, m) }",
    ),
}  # fmt: skip
HEAD = """(float[n,8] x) => (float[n,8] y) <float two = {2.0}, float eps = {1e-5}, float one = {1.0},
 float half = {0.5}, float root = {1.41421356}, float[8] g = {1, 2, 3, 4, 5, 6, 7, 8}, float zero = {0.0},
 float three = {3.0}, float six = {6.0}, float c = {0.044715}, float r = {0.7978845608}, int64[1] axis = {-1}> """
HONEST = {
    "Gelu": "{ a = Div(x, root)  e = Erf(a)  f = Add(e, one)  h = Mul(x, f)  y = Mul(h, half) }",
    "Gelu by tanh": "{ p = Pow(x, three)  k = Mul(c, p)  s = Add(x, k)  "
    "q = Mul(r, s)  t = Tanh(q)  "
    "o = Add(one, t)  j = Mul(half, x)  y = Mul(j, o) }",
    "HardSwish": "{ a = Add(x, three)  b = Clip(a, zero, six)  d = Mul(x, b)  y = Div(d, six) }",
    "Mish": "{ p = Softplus(x)  q = Tanh(p)  y = Mul(x, q) }",
    "LayerNormalization": "{ m = ReduceMean(x, axis)  k = Sub(x, m)  p = Pow(k, two)  v = ReduceMean(p, axis)  "
    "w = Add(v, eps)  s = Sqrt(w)  d = Div(k, s)  e = Mul(d, g)  y = Add(e, g) }",
    "RMSNormalization": "{ p = Pow(x, two)  v = ReduceMean(p, axis)  w = Add(v, eps)  "
    "s = Sqrt(w)  d = Div(x, s)  y = Mul(g, d) }",
    "Softmax": "{ m = ReduceMax(x, axis)  d = Sub(x, m)  e = Exp(d)  s = ReduceSum(e, axis)  y = Div(e, s) }",
    "Clip": "{ a = Relu(x)  y = Min(a, six) }",
    "ReduceL2": "{ p = Mul(x, x)  s = ReduceSum(p, axis)  t = Sqrt(s)  y = Div(x, t) }",
}  # fmt: skip


def widened(model: Any) -> Reference:
    reference = Reference(model, {})
    for probe in reference.probes_of_edges():
        reference.add(probe)
    return reference


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_at_an_edge_is_caught(case: str) -> None:
    before, after = (Example(text, opset=23).model() for text in WRONG[case])
    Reference(before, {}).check(after)  # likely values do not show it
    reference = widened(before)
    reference.check(before)
    with pytest.raises(StepError):
        reference.check(after)


@pytest.mark.parametrize("case", HONEST)
def test_honest_rewrites_pass(case: str) -> None:
    model = Example(HEAD + HONEST[case]).model()
    content, _ = passes.optimize_bytes(model.SerializeToString())
    after = onnx.load_model_from_string(content)
    assert len(after.graph.node) < len(model.graph.node)
    reference = widened(model)
    assert len(reference.edges) >= 6
    reference.check(after)


def test_an_edge_that_the_original_does_not_take_proves_nothing() -> None:
    table = "(int64[n] x) => (float[n,2] y) <float[3,2] t = {1, 2, 3, 4, 5, 6}> { y = Gather(t, x) }"
    reference = widened(Example(table).model())
    for probe in reference.edges:
        values = feed(reference.inputs, probe)["x"]
        assert values.size == 0 or (values.min() >= -3 and values.max() < 3)


def test_an_edge_that_takes_the_process_down_is_left_out(tmp_path: Path) -> None:
    reference = Reference(Example(WHOLE + "{ y = Abs(x) }").model(), {})
    first = reference.probes_of_edges()[0].edge
    widen(Steps(tmp_path, {f"original at {first} 0": {"failed": "died by SIGFPE"}}, lambda line: None), reference, 1.0)
    assert [probe.edge for probe in reference.edges] == [
        probe.edge for probe in reference.probes_of_edges() if probe.edge != first
    ]


def test_edges_are_the_same_each_time_and_in_the_certificate() -> None:
    model = Example(WRONG["bounds"][0]).model()
    one, other = widened(model), widened(model)
    assert json.dumps(one.told()) == json.dumps(other.told())
    assert len(one.told()["probes"]) == len(one.told()["outputs"]) == len(one.probes) + len(one.edges)
    for probe in one.edges:
        left, right = (feed(each.inputs, probe)["x"] for each in (one, other))
        np.testing.assert_array_equal(left, right)


def test_one_size_alone_is_told() -> None:
    text = "(float[n,3] x) => (float[k,3] y) <int64[2] s = {4, 3}> { r = Reshape(x, s)  y = Neg(r) }"
    assert Reference(Example(text).model(), {}).told()["one_size"]
    assert not Reference(Example(WRONG["bounds"][0]).model(), {}).told()["one_size"]


def test_where_the_lowest_numbers_overflow_inside_nothing_is_compared() -> None:
    """What the outputs are then is decided by the order of sums, which rewrites may change."""
    overflows = Example(HEAD + "{ a = Mul(x, three)  y = Div(x, a) }").model()
    masks = Example(HEAD + "{ a = Add(x, one)  y = Softmax<axis = -1>(a) }").model()
    added = [
        [reference.add(probe) for probe in reference.probes_of_edges() if probe.edge.startswith(LOWEST)]
        for reference in (Reference(overflows, {}), Reference(masks, {}))
    ]
    assert added == [[False], [True]]


def test_outputs_that_all_saturate_are_as_right_as_float32_is() -> None:
    before, after = (np.array([number], np.float32) for number in (3e-8, 9e-8))
    assert difference(before, after, LEAST_EDGE_SCALE) < 1e-7
    with pytest.raises(StepError, match="differ by up to"):
        difference(before, after)
