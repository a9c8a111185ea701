"""Operators after one that has done the same."""

import pytest

from rayopt.graph import passes
from tests.graph.passes.proof import Example, checks


def after(first: str, second: str, *left: str) -> Example:
    text = f"(float[n,3] x) => (float[n,3] y) {{ a = {first}(x)  b = {second}(a)  y = Neg(b) }}"
    return Example(text, dict.fromkeys([*left, "Neg"], 1) if left else None, special=True)


FIRES = {
    "Relu twice": after("Relu", "Relu", "Relu"),
    "Relu of a Sigmoid": after("Sigmoid", "Relu", "Sigmoid"),
    "Relu of a Softmax": after("Softmax", "Relu", "Softmax"),
    "Abs twice": after("Abs", "Abs", "Abs"),
    "Round twice": after("Round", "Round", "Round"),
    "in front of an output": Example("(float[n] x) => (float[n] y) { a = Floor(x)  y = Floor(a) }", {"Floor": 1}),
}
STAYS = {
    "another one": after("Floor", "Ceil"),
    "what may be below zero": after("Tanh", "Relu"),
    "both are outputs": Example("(float[n] x) => (float[n] y, float[n] z) { y = Relu(x)  z = Relu(y) }"),
}

test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("idempotent", FIRES, STAYS)


@pytest.mark.parametrize("operator", ["Relu", "Ceil"])
def test_a_chain_is_gone_in_one_round(operator: str) -> None:
    steps = " ".join(f"v{i + 1} = {operator}(v{i})" for i in range(50))
    content = Example(f"(float[n] v0) => (float[n] v50) {{ {steps} }}").model().SerializeToString()
    assert passes.optimize_bytes(content, ["idempotent"])[1] == {"idempotent": 49}
