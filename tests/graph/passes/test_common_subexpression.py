"""Nodes that compute the same."""

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from rayopt.graph import passes
from tests.graph.passes.proof import Example, checks

TWICE = "(float[n,2] x) => (float[n,2] y) { a = Neg(x)  b = Neg(x)  c = Abs(a)  d = Abs(b)  y = Sub(c, d) }"

FIRES = {
    "a chain": Example(TWICE, {"Neg": 1, "Abs": 1, "Sub": 1}, special=True),
    "one of them an output": Example(
        "(float[n,2] x) => (float[n,2] y, float[n,2] z) { a = Neg(x)  y = Neg(x)  z = Abs(a) }", {"Neg": 1, "Abs": 1}
    ),
    "attributes that are equal": Example(
        "(float[n,2] x) => (float[n,2] y) { a = LeakyRelu<alpha = 0.5>(x)  b = LeakyRelu<alpha = 0.5>(x)  y = Add(a, b) }",
        {"LeakyRelu": 1, "Add": 1},
    ),
}
STAYS = {
    "zeros of another sign": Example(
        "(float[n,2] x) => (float[n,2] y, float[n,2] z) { a = Constant<value_float = 0.0>()  b = Constant<value_float = -0.0>()"
        "  y = Div(x, a)  z = Div(x, b) }"
    ),
    "other attributes": Example(
        "(float[n,2] x) => (float[n,2] y) { a = LeakyRelu<alpha = 0.5>(x)  b = LeakyRelu<alpha = 0.6>(x)  y = Add(a, b) }"
    ),
    "other inputs": Example(
        "(float[n,2] x, float[n,2] z) => (float[n,2] y) { a = Sub(x, z)  b = Sub(z, x)  y = Mul(a, b) }"
    ),
    "outputs": Example("(float[n,2] x) => (float[n,2] y, float[n,2] z) { y = Neg(x)  z = Neg(x) }"),
}


def test_random_operators_are_not_merged() -> None:
    text = "(float[n,2] x) => (float[n,2] y) { a = RandomNormalLike(x)  b = RandomNormalLike(x)  y = Sub(a, b) }"
    assert passes.run(ir.from_proto(Example(text).model()), ["common_subexpression"], passes.Limits()) == {
        "common_subexpression": 0
    }


def test_constants_of_strings_are_not_compared() -> None:
    nodes = [helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array("s"))) for name in "ab"]
    nodes.append(helper.make_node("Equal", ["a", "b"], ["y"]))
    graph = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("y", TensorProto.BOOL, [])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    counts = passes.run(ir.from_proto(model), ["common_subexpression"], passes.Limits())
    assert counts == {"common_subexpression": 0}


def test_recurrent_nodes_with_other_outputs_left_out_are_not_merged() -> None:
    left_out = (["Y", ""], ["", "Z"])
    nodes = [helper.make_node("GRU", ["x", "w", "r"], outputs, hidden_size=2) for outputs in left_out]
    nodes += [helper.make_node("Neg", [name], [name.lower()]) for name in "YZ"]
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
        for name, dims in (("x", ["t", 2, 3]), ("y", None), ("z", None))
    ]
    weights = [numpy_helper.from_array(np.ones((1, 6, k), np.float32), name) for name, k in (("w", 3), ("r", 2))]
    made = helper.make_model(helper.make_graph(nodes, "g", infos[:1], infos[1:], weights), ir_version=10)
    assert passes.run(ir.from_proto(made), ["common_subexpression"], passes.Limits()) == {"common_subexpression": 0}


test_rewrites, test_is_equal_in_every_form, test_leaves_alone = checks("common_subexpression", FIRES, STAYS)
