"""A newer opset, with everything else as it was."""

import onnx
import pytest
from onnx import helper

from rayopt.graph.passes import upgrade
from tests.graph.passes.proof import Example, same

OLD = "(float[n,4] x) => (float[n,1,4] y) <float[4,300] w = {W}> { m = MatMul(x, w)  r = ReduceSum<axes = [1]>(m)  s = Sub(x, r)  y = Unsqueeze<axes = [1]>(s) }"
OLD = OLD.replace("{W}", "{" + ", ".join(str(i % 9 / 8) for i in range(1200)) + "}")


@pytest.mark.parametrize("target", [13, 18, 23])
def test_a_raised_model_is_equal(target: int) -> None:
    model = Example(OLD, opset=11).model()
    raised = upgrade.raised(model, target)
    assert raised.opset_import[0].version == target
    assert [one.name for one in raised.graph.input] == ["x"]
    onnx.checker.check_model(raised)
    same(model, raised, Example(OLD))


def test_what_the_converter_does_not_know_stays() -> None:
    node = helper.make_node("Upsample", ["x", "s"], ["y"], mode="nearest")
    info = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 1, 2, 2]) for name in "xy"]
    info.insert(1, helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, [4]))
    graph = helper.make_graph([node], "g", info[:2], info[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=8)
    assert upgrade.raised(model, 13).opset_import[0].version in (9, 13)
    foreign = helper.make_model(graph, opset_imports=[helper.make_opsetid("far.away", 1)], ir_version=8)
    assert upgrade.raised(foreign, 13) is foreign


def test_a_newer_model_stays() -> None:
    model = Example("(float[n] x) => (float[n] y) { y = Neg(x) }", opset=20).model()
    assert upgrade.raised(model, 18) is model
