"""What holds for every pass, and for all of them together."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from rayopt.graph import passes
from rayopt.models.onnx_model import node_count
from tests.graph.passes.proof import Example, same, session

HERE = Path(__file__).parent
# Gelu by torch, a batch norm after Conv, tied weights, a shape that is computed, and something dead.
WHOLE = """(float[n,3,4,4] x) => (float[n,4] y, float[n,4] z)
<float[2,3,1,1] w = {1.0, 0.5, 0.25, 2.0, 1.5, 0.75}, float[2] g = {1.0, 2.0}, float[2] b = {0.0, 1.0}, float[2] m = {0.1, 0.2},
 float[2] v = {1.0, 0.5}, int64 zero = {0}, int64[1] rest = {-1}, int64[1] front = {0}, float[32,4] t = {T}, float[32,4] u = {T},
 float root = {1.41421356}, float one = {1.0}, float half = {0.5}> {
 c = Conv(x, w)  d = BatchNormalization(c, g, b, m, v)  s = Shape(d)  e = Gather(s, zero)  f = Unsqueeze(e, front)
 h = Concat<axis = 0>(f, rest)  i = Reshape(d, h)  j = MatMul(i, t)  k = MatMul(i, u)  dead = Exp(j)
 l = Div(j, root)  o = Erf(l)  p = Add(o, one)  q = Mul(j, p)  y = Mul(q, half)  z = Identity(k) }""".replace(
    "{T}", "{" + ", ".join(str(i % 7 / 8) for i in range(128)) + "}"
)


@pytest.mark.parametrize("name", passes.names())
def test_a_pass_says_what_it_is_and_has_its_test(name: str) -> None:
    module = importlib.import_module(f"rayopt.graph.passes.{name}")
    assert module.__doc__
    assert isinstance(module.opset, int)
    assert isinstance(module.dims, bool)
    assert isinstance(module.needs, tuple)
    assert (HERE / f"test_{name}.py").is_file()


def test_all_together_are_equal_and_leave_little() -> None:
    model = Example(WHOLE, opset=17).model()
    content, counts = passes.optimize_bytes(model.SerializeToString())
    after = onnx.load_model_from_string(content)
    same(model, after, Example(WHOLE))
    assert [node.op_type for node in after.graph.node] == ["Conv", "Reshape", "MatMul", "Gelu"]
    assert counts["gelu"] == counts["affine_after"] == 1
    assert passes.optimize_bytes(content) == (content, dict.fromkeys(passes.names(), 0))


def test_the_same_model_gives_the_same_bytes() -> None:
    content = Example(WHOLE, opset=17).model().SerializeToString()
    assert passes.optimize_bytes(content)[0] == passes.optimize_bytes(content)[0]


def test_nothing_found_gives_the_content_back() -> None:
    content = Example("(float[n] x) => (float[n] y) { y = Neg(x) }", opset=9).model().SerializeToString()
    assert passes.optimize_bytes(content)[0] is content


def test_the_opset_is_raised_only_as_far_as_is_of_use() -> None:
    for text, wanted in ((WHOLE, 20), ("(float[n] x) => (float[n] y) { a = Identity(x)  y = Neg(a) }", 13)):
        content, _ = passes.optimize_bytes(Example(text, opset=13 if wanted == 13 else 17).model().SerializeToString())
        assert onnx.load_model_from_string(content).opset_import[0].version == wanted


def test_the_target_opset_is_kept() -> None:
    content, counts = passes.optimize_bytes(
        Example(WHOLE, opset=17).model().SerializeToString(), limits=passes.Limits(17)
    )
    assert counts["gelu"] == 0
    assert onnx.load_model_from_string(content).opset_import[0].version == 17


def test_names_metadata_and_defaults_are_kept() -> None:
    model = Example(WHOLE, opset=17).model()
    model.graph.input.append(helper.make_tensor_value_info("g", TensorProto.FLOAT, [2]))
    model.producer_name, model.doc_string, model.graph.name = "who", "what", "it"
    entry = model.metadata_props.add()
    entry.key, entry.value = "labels", "a,b"
    after = onnx.load_model_from_string(passes.optimize_bytes(model.SerializeToString())[0])
    assert (after.producer_name, after.doc_string, after.graph.name) == ("who", "what", "it")
    assert [(one.key, one.value) for one in after.metadata_props] == [("labels", "a,b")]
    assert [one.name for one in after.graph.input] == ["x", "g"]
    assert "g" in {one.name for one in after.graph.initializer}
    same(model, after, Example(WHOLE))


def test_declared_shapes_inside_are_not_believed() -> None:
    text = "(float[n,k] x) => (float[n,k] y) <int64[2] t = {4, 4}> { a = Neg(x)  s = Shape(a)  b = Reshape(a, s)  y = Abs(b) }"
    model = Example(text).model()
    lie = helper.make_tensor_value_info("a", TensorProto.FLOAT, [7, 7])
    model.graph.value_info.append(lie)
    after = onnx.load_model_from_string(passes.optimize_bytes(model.SerializeToString())[0])
    assert not after.graph.value_info
    same(model, after, Example(text, sizes=(2, 3)))


def test_names_of_an_earlier_run_are_not_taken_again() -> None:
    content = passes.optimize_bytes(Example(WHOLE, opset=17).model().SerializeToString())[0]
    again = onnx.load_model_from_string(content)
    again.graph.node[-1].op_type = "Neg"
    extra = helper.make_node("Sub", [again.graph.output[0].name, "zero_"], ["extra"])
    again.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "zero_"))
    again.graph.node.append(extra)
    again.graph.node.append(helper.make_node("Shape", ["x"], ["sizes"], start=1))
    again.graph.node.append(helper.make_node("Cast", ["sizes"], ["last"], to=TensorProto.FLOAT))
    again.graph.output.append(helper.make_tensor_value_info("last", TensorProto.FLOAT, [3]))
    after = onnx.load_model_from_string(passes.optimize_bytes(again.SerializeToString())[0])
    onnx.checker.check_model(after)
    names = [one.name for one in after.graph.initializer]
    assert len(names) == len(set(names))
    same(again, after, Example(WHOLE))


def test_a_long_chain_and_deep_nesting_end() -> None:
    nodes = [helper.make_node("Identity", [f"v{at}"], [f"v{at + 1}"]) for at in range(5000)]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("v0", "v5001")]
    nodes.append(helper.make_node("Neg", ["v5000"], ["v5001"]))
    model = helper.make_model(helper.make_graph(nodes, "g", info[:1], info[1:]), ir_version=10)
    assert node_count(onnx.load_model_from_string(passes.optimize_bytes(model.SerializeToString())[0])) == 1


def test_foreign_operators_are_left_alone() -> None:
    nodes = [helper.make_node("Identity", ["x"], ["a"], domain="far.away"), helper.make_node("Neg", ["a"], ["y"])]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("far.away", 1)]
    model = ir.from_proto(helper.make_model(helper.make_graph(nodes, "g", info[:1], info[1:]), opset_imports=opsets))
    assert not any(passes.run(model, passes.names(), passes.Limits()).values())
    assert [node.domain for node in model.graph] == ["far.away", ""]


def test_sparse_initializers_are_not_lost() -> None:
    values = numpy_helper.from_array(np.float32([3, 4]), "w")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.int64([1, 3]), "at"), [5])
    nodes = [helper.make_node("Identity", ["x"], ["a"]), helper.make_node("Add", ["a", "w"], ["y"])]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 5]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], sparse_initializer=[sparse])
    content = helper.make_model(graph, ir_version=10).SerializeToString()
    assert passes.optimize_bytes(content) == (content, {})


LOOP = """(float[4] x, int64[1] size) => (float[4] y) <int64 k = {3}, bool c = {1}, float[4] w = {1, 2, 3, 4}, int64[2] two = {2, 2}, int64[1] all = {-1}>
{ OUTER  y BESIDE = Loop(k, c, x MORE)<body = body (int64 it, bool on, float[4] v STATE) => (bool off, float[4] p NEXT) { off = Identity(on)  INNER }> }"""


@pytest.mark.parametrize(
    "parts",
    [
        {"OUTER": "i = Identity(x)", "INNER": "p = Add(i, x)", "float[4] v": "float[4] x"},
        {"OUTER": "i = Exp(x)  j = Exp(x)", "INNER": "q = Add(j, i)  p = Sub(q, x)", "float[4] v": "float[4] i"},
        {"BESIDE": ", s", "MORE": ", size", "STATE": ", int64[1] two", "NEXT": ", int64[1] t",
         "INNER": "r = Reshape(v, two)  t = Shape(r)  p = Reshape(r, all)"},
    ], ids=["a value around it", "a value that another replaces", "a constant around it"],
)  # fmt: skip
def test_an_input_of_a_body_may_hide_a_name_around_it(parts: dict[str, str]) -> None:
    text = LOOP
    for old, new in ({"OUTER": "", "BESIDE": "", "MORE": "", "STATE": "", "NEXT": ""} | parts).items():
        text = text.replace(old, new)
    model = Example(text, sizes=(4,)).model()
    after = onnx.load_model_from_string(passes.optimize_bytes(model.SerializeToString())[0])
    left, right = session(model), session(after)
    fed = {"x": np.arange(4, dtype=np.float32), "size": np.array([4])}
    fed = {one.name: fed[one.name] for one in left.get_inputs()}
    np.testing.assert_array_equal(left.run(None, fed)[0], right.run(None, fed)[0])


def test_sparse_constants_are_not_lost() -> None:
    values = numpy_helper.from_array(np.float32([3, 4]))
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.int64([1, 3]), "at"), [5])
    nodes = [helper.make_node("Constant", [], ["w"], sparse_value=sparse), helper.make_node("Identity", ["x"], ["a"])]
    nodes.append(helper.make_node("Add", ["a", "w"], ["y"]))
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 5]) for name in "xy"]
    content = helper.make_model(helper.make_graph(nodes, "g", info[:1], info[1:]), ir_version=10).SerializeToString()
    assert passes.optimize_bytes(content) == (content, {})


def test_an_older_logsoftmax_stays_one_node() -> None:
    text = "(float[n,3,4] x) => (float[n,3,4] y) { i = Identity(x)  a = LogSoftmax<axis = 2>(i)  y = Neg(a) }"
    model = Example(text, opset=11).model()
    after = onnx.load_model_from_string(passes.optimize_bytes(model.SerializeToString())[0])
    assert [node.op_type for node in after.graph.node] == ["LogSoftmax", "Neg"]
    same(model, after, Example(text))
