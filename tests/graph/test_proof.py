"""What is called equal is, and what is not is caught: values, shapes, types, branches, chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rayopt.errors import StepError
from rayopt.graph import face as faces
from rayopt.graph.difference import difference
from rayopt.graph.inputs import assignments, feed
from rayopt.graph.proof import Condition, Reference
from rayopt.graph.verdicts import Refused
from tests.graph.hostile import array, good, model, node, value


def changed(made: onnx.ModelProto, factor: float) -> onnx.ModelProto:
    """The same model with its first weight times a factor."""
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    weight = copy.graph.initializer[0]
    values = onnx.numpy_helper.to_array(weight) * np.float32(factor)
    weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), weight.name))
    return copy


def test_a_model_equals_itself_at_two_shapes_and_several_seeds() -> None:
    reference = Reference(good(), {})
    assert reference.check(good()) == 0
    assert len({tuple(probe.dims.items()) for probe in reference.probes}) >= 2
    assert len({probe.seed for probe in reference.probes}) >= 3


@pytest.mark.parametrize(("factor", "equal"), [(1 + 1e-6, True), (1.01, False), (0.0, False), (-1.0, False)])
def test_rounding_is_equal_and_another_weight_is_not(factor: float, equal: bool) -> None:
    reference = Reference(good(), {})
    if equal:
        assert 0 < reference.check(changed(good(), factor)) < 1e-4
    else:
        with pytest.raises(StepError, match="outputs differ by up to"):
            reference.check(changed(good(), factor))


@pytest.mark.parametrize(
    ("wanted", "got", "says"),
    [
        ([1.0, 2.0], [1.0, 2.0, 3.0], "shape"),
        ([1.0, np.nan], [1.0, 2.0], "not finite"),
        ([1.0, 2.0], [1.0, np.nan], "that were finite"),
        ([1.0, np.inf], [1.0, -np.inf], "not finite"),
        ([1e-8, 2e-8], [0.0, 2e-8], "differ"),
        ([1000.0, 0.0], [1000.0, 1.0], "differ"),
    ],
)
def test_what_differs_is_told(wanted: list[float], got: list[float], says: str) -> None:
    with pytest.raises(StepError, match=says):
        difference(np.float32(wanted), np.float32(got))


def test_numbers_that_are_not_finite_are_equal_where_they_are_the_same() -> None:
    values = np.float32([np.nan, np.inf, -np.inf, 1])
    assert difference(values, values.copy()) == 0


@pytest.mark.parametrize(("left", "right"), [(np.int64([1]), np.int64([2])), (np.int64([1]), np.int32([1]))])
def test_whole_numbers_are_the_same_or_not(left: Any, right: Any) -> None:
    assert difference(left, left.copy()) == 0
    with pytest.raises(StepError):
        difference(left, right)


def switch(factors: Sequence[float]) -> onnx.ModelProto:
    """y = x times one factor if the rate is 16000, else times the other."""
    branches = []
    for name, factor in zip(("t", "e"), factors, strict=True):
        nodes = [node("Mul", f"x {name}w", name)]
        branches.append(helper.make_graph(nodes, name, [], [value(name)], [array(f"{name}w", [factor])]))
    nodes = [
        node("Equal", "rate k", "c"),
        node("If", "c", "y", then_branch=branches[0], else_branch=branches[1]),
    ]
    rate = helper.make_tensor_value_info("rate", TensorProto.INT64, [])
    return model(nodes, [value("x"), rate], weights=[array("k", 16000, np.int64)])


def test_both_branches_of_a_switch_are_compared() -> None:
    reference = Reference(switch([2, 3]), {})
    assert [set(one.seen) for one in reference.conditions(switch([2, 3]))] == [{"then", "else"}]
    for wrong in ([2, 4], [1, 3]):
        with pytest.raises(StepError, match="differ"):
            reference.check(switch(wrong))


def test_a_branch_that_no_input_reaches_is_told() -> None:
    made = switch([2, 3])
    made.graph.node.insert(0, node("Abs", "rate", "positive"))
    made.graph.node.insert(1, node("Neg", "positive", "negative"))
    made.graph.node[2].input[0] = "negative"  # never 16000
    reference = Reference(made, {})
    assert [one.seen for one in reference.conditions(made)] == [("else",)]


def test_a_branch_that_no_input_reaches_is_compared_with_its_condition_set() -> None:
    def unreached(factors: Sequence[float]) -> onnx.ModelProto:
        made = switch(factors)
        made.graph.node.insert(0, node("Abs", "rate", "positive"))
        made.graph.node.insert(1, node("Neg", "positive", "negative"))
        made.graph.node[2].input[0] = "negative"  # never 16000
        return made

    reference = Reference(unreached([2, 3]), {})
    assert reference.check(unreached([4, 3])) == 0
    for one in reference.unreached():
        assert reference.force(*one)
    reference.check(unreached([2, 3]))
    assert reference.conditions(unreached([2, 3])) == (Condition("y", ("else", "then"), ("then",)),)
    with pytest.raises(StepError, match="that no input reaches"):
        reference.check(unreached([4, 3]))
    renamed = unreached([4, 3])
    renamed.graph.node[-1].output[0] = "z"
    renamed.graph.node.append(node("Identity", "z", "y"))
    reference.check(renamed)  # it cannot be told which one it is, and that is said
    assert reference.conditions(unreached([2, 3])) == (Condition("y", ("else",)),)


def test_a_branch_in_a_branch_is_compared_with_both_conditions_set() -> None:
    def unreached(factors: Sequence[float]) -> onnx.ModelProto:
        made = switch_in_switch(factors)
        made.graph.node.insert(0, node("Sub", "rate rate", "nothing"))
        made.graph.node.insert(1, node("Add", "nothing k", "always"))
        made.graph.node[2].input[0] = "always"
        return made

    reference = Reference(unreached([2, 3, 4]), {})
    for one in reference.unreached():
        assert reference.force(*one)
    reference.check(unreached([2, 3, 4]))
    told = {one.node: set(one.seen) for one in reference.conditions(unreached([2, 3, 4]))}
    assert told == {"y": {"then", "else"}, "o": {"then", "else"}}
    for wrong in ([2, 5, 4], [2, 3, 5]):
        with pytest.raises(StepError, match="that no input reaches"):
            reference.check(unreached(wrong))


def switch_in_switch(factors: Sequence[float]) -> onnx.ModelProto:
    """y = x times one of three factors: for a rate of 8000, of 16000 and fast, of 16000 and not."""
    inner = [
        helper.make_graph([node("Mul", f"x {name}w", name)], name, [], [value(name)], [array(f"{name}w", [factor])])
        for name, factor in zip("fs", factors[1:], strict=True)
    ]
    outer = helper.make_graph(
        [node("If", "fast", "o", then_branch=inner[0], else_branch=inner[1])], "o", [], [value("o")]
    )
    slow = helper.make_graph([node("Mul", "x tw", "t")], "t", [], [value("t")], [array("tw", factors[:1])])
    nodes = [node("Equal", "rate k", "c"), node("If", "c", "y", then_branch=slow, else_branch=outer)]
    inputs = [value("x"), value("rate", (), TensorProto.INT64), value("fast", (1,), TensorProto.BOOL)]
    return model(nodes, inputs, weights=[array("k", 8000, np.int64)])


def test_branches_inside_branches_are_compared() -> None:
    reference = Reference(switch_in_switch([2, 3, 4]), {})
    told = {one.node: set(one.seen) for one in reference.conditions(switch_in_switch([2, 3, 4]))}
    assert told == {"y": {"then", "else"}, "o": {"then", "else"}}
    for wrong in ([5, 3, 4], [2, 5, 4], [2, 3, 5]):
        with pytest.raises(StepError, match="differ"):
            reference.check(switch_in_switch(wrong))


def test_branches_that_take_sizes_of_their_own_are_compared() -> None:
    def sized(factor: float) -> onnx.ModelProto:
        branches = [
            helper.make_graph(
                [node("MatMul", f"x {name}w", name)], name, [], [value(name, ("n", 2))], [array(f"{name}w", weights)]
            )
            for name, weights in (("t", np.full((64, 2), factor)), ("e", np.ones((32, 2))))
        ]
        nodes = [node("Equal", "rate k", "c"), node("If", "c", "y", then_branch=branches[0], else_branch=branches[1])]
        inputs = [value("x", ("n", "t")), value("rate", (), TensorProto.INT64)]
        return model(nodes, inputs, [value("y", ("n", 2))], [array("k", 16000, np.int64)])

    reference = Reference(sized(1.0), {})
    assert [set(one.seen) for one in reference.conditions(sized(1.0))] == [{"then", "else"}]
    with pytest.raises(StepError, match="differ"):
        reference.check(sized(2.0))


def test_a_branch_inside_one_that_is_not_reached_is_told() -> None:
    made = switch_in_switch([2, 3, 4])
    made.graph.node.insert(0, node("Sub", "rate rate", "nothing"))
    made.graph.node.insert(1, node("Add", "nothing k", "always"))
    made.graph.node[2].input[0] = "always"
    told = {one.node: one.seen for one in Reference(made, {}).conditions(made)}
    assert told == {"y": ("then",), "o": ()}


def test_whole_numbers_that_are_looked_up_lie_within_the_table() -> None:
    table = array("table", np.arange(12).reshape(3, 4))
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "t"])
    made = model([node("Gather", "table ids", "y")], [ids], [value("y", ("n", "t", 4))], [table])
    reference = Reference(made, {})
    drawn = np.concatenate([feed(reference.inputs, probe)["ids"].ravel() for probe in reference.probes])
    assert set(drawn.tolist()) == {0, 1, 2}


def random_model(**attributes: Any) -> onnx.ModelProto:
    return model([node("RandomNormal", "", "r", shape=[1, 4], **attributes), node("Add", "x r", "y")])


def test_random_operators_are_compared_by_what_they_are() -> None:
    reference = Reference(random_model(scale=2.0), {})
    assert reference.check(random_model(scale=2.0)) == 0
    folded = model([node("Add", "x r", "y")], weights=[array("r", np.ones((1, 4)))])
    for other in (random_model(scale=3.0), folded):
        with pytest.raises(StepError, match="random operators"):
            reference.check(other)


def test_what_follows_a_random_operator_is_compared_as_numbers() -> None:
    other = random_model()
    other.graph.node[1].op_type = "Sub"
    with pytest.raises(StepError, match="differ"):
        Reference(random_model(), {}).check(other)


RANDOM_WITH_INPUTS = {
    "Bernoulli": {},
    "RandomNormalLike": {"scale": 2.0},
    "RandomUniformLike": {"dtype": TensorProto.DOUBLE, "high": 3.0},
    "Multinomial": {"sample_size": 50},
}


def drawn_from(operator: str, before: str = "Sigmoid", after: str = "Abs") -> onnx.ModelProto:
    nodes = [node(before, "x", "p"), node(operator, "p", "r", **RANDOM_WITH_INPUTS[operator]), node(after, "r", "s")]
    kinds = {"RandomUniformLike": TensorProto.DOUBLE, "Multinomial": TensorProto.INT32}
    return model(nodes, outputs=[value("s", None, kinds.get(operator, TensorProto.FLOAT))])


@pytest.mark.parametrize("operator", RANDOM_WITH_INPUTS)
def test_random_operators_with_inputs_are_compared_as_well(operator: str) -> None:
    reference = Reference(drawn_from(operator), {})
    assert reference.check(drawn_from(operator)) == 0
    assert any(len(set(np.ravel(outputs[0]))) > 1 for outputs in reference.outputs), "or all would be equal"
    with pytest.raises(StepError, match="differ"):
        reference.check(drawn_from(operator, after="Neg"))
    other = drawn_from(operator)
    other.graph.node[1].attribute.add(name="seed", type=1, f=3.0)
    with pytest.raises(StepError, match="random operators"):
        reference.check(other)


@pytest.mark.parametrize("operator", ["Bernoulli", "Multinomial"])
def test_chances_that_are_others_are_caught(operator: str) -> None:
    with pytest.raises(StepError, match="differ"):
        Reference(drawn_from(operator), {}).check(drawn_from(operator, before="Tanh"))


def test_a_random_operator_inside_a_branch_cannot_be_compared() -> None:
    branch = helper.make_graph([node("RandomNormal", "", "t", shape=[1, 4])], "b", [], [value("t", (1, 4))])
    made = model([node("If", "c", "y", then_branch=branch, else_branch=branch)], [value("c", (), TensorProto.BOOL)])
    with pytest.raises(Refused) as refusal:
        Reference(made, {})
    assert refusal.value.verdict == "not_comparable"


def test_initializers_that_may_be_overridden_are_and_stay() -> None:
    nodes = [node("Identity", "w", "v"), node("Add", "x v", "y")]
    made = model(nodes, [value("x"), value("w", (4,))], weights=[array("w", [1, 2, 3, 4])])
    opened, face = faces.take_off(made)
    assert [one.name for one in opened.graph.input] == ["x", "w"]
    assert not opened.graph.initializer
    defaults = {one.name: onnx.numpy_helper.to_array(one) for one in face.overridable}
    reference = Reference(opened, defaults)
    folded = model([node("Add", "x v", "y")], [value("x"), value("w", (4,))], weights=[array("v", [1, 2, 3, 4])])
    with pytest.raises(StepError, match="differ"):
        reference.check(folded)
    closed = faces.put_on(opened, face, reference.ranks())
    assert reference.check(closed) == 0
    assert closed.graph.initializer == made.graph.initializer
    assert closed.graph.input == made.graph.input


def test_metadata_and_declared_shapes_come_back_but_not_those_that_are_wrong() -> None:
    made = good()
    made.graph.output[0].CopyFrom(value("y", ("n", 5)))
    made.metadata_props.add(key="author", value="somebody")
    opened, face = faces.take_off(made)
    stripped = onnx.ModelProto()
    stripped.CopyFrom(opened)
    del stripped.metadata_props[:]
    closed = faces.put_on(stripped, face, [[(2, 4), (1, 4)]])
    assert closed.metadata_props == made.metadata_props
    dims = closed.graph.output[0].type.tensor_type.shape.dim
    assert len(dims) == 2
    assert not any(one.HasField("dim_value") for one in dims)


def test_operators_of_one_machine_are_not_portable() -> None:
    opened, face = faces.take_off(good())
    opened.graph.node[2].domain = "com.microsoft"
    with pytest.raises(StepError, match="not portable"):
        faces.put_on(opened, face, [[(2, 4)]])


def test_sizes_of_axes_differ_where_they_can() -> None:
    reference = Reference(
        model([node("Relu", "x", "y")], [value("x", ("a", "b", "c"))], [value("y", ("a", "b", "c"))]), {}
    )
    first = next(iter(assignments(reference.inputs)))
    assert len(set(first.values())) == 3
