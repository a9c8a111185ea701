"""The passes to blame are found, and the others still count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayopt.graph import passes
from rayopt.graph.passes import facts, gelu
from rayopt.graph.portfolio import Portfolio, load, store
from rayopt.graph.proof import Reference
from rayopt.graph.steps import Steps
from rayopt.graph.suspects import MOST, suspects
from rayopt.graph.tools import Setting
from tests.graph.passes.proof import Example

NAMES = [f"p{index}" for index in range(36)]
TEXT = """(float[n,4] x) => (float[n,4] y) <float root = {1.41421356}, float one = {1.0}, float half = {0.5}>
{ i = Identity(x)  s = Div(i, root)  e = Erf(s)  p = Add(e, one)  m = Mul(i, p)  z = Mul(m, half)  y = Identity(z) }"""


@given(st.sets(st.sampled_from(NAMES), min_size=1, max_size=MOST + 1))
def test_those_to_blame_are_found(bad: set[str]) -> None:
    asked: list[int] = []

    def is_right(some: Any) -> bool:
        asked.append(len(some))
        return not bad & set(some)

    found = suspects(NAMES, is_right)
    assert found is None if len(bad) > MOST else set(found or ()) == bad
    assert len(asked) <= 7 * MOST


def wrong(model: Any, limits: Any) -> int:
    """The first operator of those that Gelu is made of becomes another one."""
    found = [node for node in facts.nodes(model) if facts.is_op(node, "Erf")]
    for node in found:
        node.op_type = "Tanh"
    return len(found)


def failing(model: Any, limits: Any) -> int:
    raise IndexError("tuple index out of range")


@pytest.mark.parametrize("apply", [wrong, failing])
def test_one_bad_pass_does_not_cost_the_others(
    apply: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gelu, "apply", apply)
    model = Example(TEXT, opset=20).model()
    steps = Steps(tmp_path, {}, lambda line: None)
    start = load(steps, store(steps, model.SerializeToString()), ())
    portfolio = Portfolio(steps, Reference(model, {}), Setting(), ["own"], 1e6, width=1)
    best = portfolio.search(start)[0]
    assert (best.chain, best.nodes_count) == (("own",), 5)
    assert portfolio.setting.without == ("gelu",)
    told = [(line["what"], line["reason"].split(":")[0]) for line in portfolio.record]
    assert told[1] == ("failed", "gelu left out")
    assert told[0][0] == ("wrong" if apply is wrong else "failed")


def test_raising_the_operators_can_be_left_out() -> None:
    content = (
        Example("(float[n,3] x) => (float[n,3] y) { i = Identity(x)  y = Neg(i) }", opset=11)
        .model()
        .SerializeToString()
    )
    versions = {
        chosen: onnx.load_model_from_string(passes.optimize_bytes(content, [*chosen, "identity"])[0])
        .opset_import[0]
        .version
        for chosen in ((), (passes.UPGRADE,))
    }
    assert versions == {(): 11, (passes.UPGRADE,): 13}


def test_raising_is_not_kept_where_it_makes_more_nodes() -> None:
    text = "(float[n,3,4] x) => (float[n,3,4] y) { i = Identity(x)  a = LogSoftmax(i)  y = Neg(a) }"
    content, _ = passes.optimize_bytes(Example(text, opset=11).model().SerializeToString())
    after = ir.from_proto(onnx.load_model_from_string(content))
    assert [node.op_type for node in after.graph] == ["LogSoftmax", "Neg"]
