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


RESIZED = "(float[1,1,4,4] x) => (float[1,1,h,w] y) <float[4] s = {1, 1, SCALE}> { y = OP<mode = MODE>(x, s) }"


@pytest.mark.parametrize("mode", ['"nearest"', '"linear"'])
@pytest.mark.parametrize("scale", ["2, 2", "1.7, 1.3", "3, 0.5"])
@pytest.mark.parametrize(("operator", "opset"), [("Resize", 10), ("Upsample", 9)])
def test_what_is_resized_keeps_its_coordinates(operator: str, opset: int, scale: str, mode: str) -> None:
    if operator == "Upsample" and "0.5" in scale:
        scale = "3, 1"
    text = RESIZED.replace("OP", operator).replace("SCALE", scale).replace("MODE", mode)
    model = Example(text, opset=opset).model()
    model.ir_version = 8
    raised = upgrade.raised(model, 13)
    assert raised.opset_import[0].version == 13
    same(model, raised, Example(text))


def test_hardmax_of_all_axes_is_not_raised() -> None:
    model = Example("(float[n,3,4] x) => (float[n,3,4] y) { y = Hardmax(x) }", opset=11).model()
    assert upgrade.raised(model, 23) is model
    assert upgrade.raised(Example("(float[n,3,4] x) => (float[n,3,4] y) { y = Hardmax(x) }", opset=13).model(), 18)


def test_an_operator_without_a_newer_kernel_is_raised_as_far_as_it_has_one() -> None:
    text = "(float[n,1,4,4] x) => (float[n,1,1,1] y) { y = GlobalLpPool(x) }"
    model = Example(text, opset=17).model()
    raised = upgrade.raised(model, 23)
    assert raised.opset_import[0].version == 21
    same(model, raised, Example(text))


def test_a_newer_model_stays() -> None:
    model = Example("(float[n] x) => (float[n] y) { y = Neg(x) }", opset=20).model()
    assert upgrade.raised(model, 18) is model
