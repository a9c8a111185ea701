"""Large models are proven at true sizes with other numbers for weights, and their data comes back by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from rayopt.errors import StepError
from rayopt.graph import large
from rayopt.graph.certificate import replay
from rayopt.graph.face import take_off
from rayopt.graph.gate import admit
from rayopt.graph.order import Order
from rayopt.graph.skeleton import skeleton
from rayopt.graph.steps import Steps
from rayopt.graph.weight_numbers import PLACES, buffers_bytes, stand_ins
from tests.graph.hostile import array, model, node, value

HERE = Path()


def blocks(count: int = 2) -> onnx.ModelProto:
    """x (n, 40) through matrices of 40x40, each behind an identity and two transposes that undo each other."""
    nodes, weights, last = [], [], "x"
    for index in range(count):
        nodes += [
            node("Transpose", last, f"a{index}", perm=[1, 0]),
            node("Transpose", f"a{index}", f"b{index}", perm=[1, 0]),
            node("MatMul", f"b{index} w{index}", f"c{index}"),
            node("Relu", f"c{index}", f"d{index}" if index < count - 1 else "y"),
        ]
        weights.append(array(f"w{index}", np.random.default_rng(index).normal(size=(40, 40))))
        last = f"d{index}"
    return model(nodes, [value("x", ("n", 40))], [value("y", ("n", 40))], weights)


def residual() -> onnx.ModelProto:
    """A convolutional network with one block: its biases and norms are small, and as long as its channels."""
    generator = np.random.default_rng(0)
    vectors = [array(name, generator.uniform(0.5, 1.5, 32)) for name in ("scale", "bias", "mean", "var")]
    weights = [
        array("w0", generator.normal(size=(32, 3, 3, 3))),
        array("w1", generator.normal(size=(32, 32, 3, 3))),
        array("head", generator.normal(size=(2048, 10))),
        array("flat", [0, -1], "int64"),
        *vectors,
    ]
    nodes = [
        node("Identity", "x", "i"),
        node("Conv", "i w0 bias", "a", pads=[1, 1, 1, 1]),
        node("Conv", "a w1", "b", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "b scale bias mean var", "c"),
        node("Relu", "c", "d"),
        node("Add", "a d", "e"),
        node("Reshape", "e flat", "f"),
        node("MatMul", "f head", "y"),
    ]
    return model(nodes, [value("x", ("n", 3, 8, 8))], [value("y", ("n", 10))], weights)


def attention(width: int = 64, heads: int = 4) -> onnx.ModelProto:
    """An embedding and one layer of attention: the size of a head is in the constants of its reshapes."""
    generator = np.random.default_rng(0)
    weights = [
        array("table", generator.normal(size=(100, width))),
        array("places", np.arange(512)[None], "int64"),
        array("order", generator.normal(size=(512, width))),
        *(array(name, generator.normal(size=(width, width))) for name in ("wq", "wk", "wv", "wo")),
        *(array(name, generator.uniform(0.5, 1.5, width)) for name in ("bias", "scale")),
        array("split", [0, 0, heads, width // heads], "int64"),
        array("merge", [0, 0, width], "int64"),
        array("root", 0.25),
        array("zero", [0], "int64"),
        array("one", [1], "int64"),
    ]
    nodes = [
        node("Shape", "ids", "shape"),
        node("Gather", "shape one", "length"),
        node("Slice", "places zero length one", "here"),
        node("Gather", "order here", "po"),
        node("Gather", "table ids", "t"),
        node("Add", "t po", "h"),
        node("LayerNormalization", "h scale bias", "n"),
    ]
    for letter in "qkv":
        nodes += [
            node("MatMul", f"n w{letter}", f"{letter}0"),
            node("Add", f"{letter}0 bias", f"{letter}1"),
            node("Reshape", f"{letter}1 split", f"{letter}2"),
            node("Transpose", f"{letter}2", letter, perm=[0, 2, 3, 1] if letter == "k" else [0, 2, 1, 3]),
        ]
    nodes += [
        node("MatMul", "q k", "s0"),
        node("Mul", "s0 root", "s1"),
        node("Softmax", "s1", "s", axis=-1),
        node("Dropout", "s", "sd"),
        node("MatMul", "sd v", "o0"),
        node("Transpose", "o0", "o1", perm=[0, 2, 1, 3]),
        node("Reshape", "o1 merge", "o2"),
        node("MatMul", "o2 wo", "o3"),
        node("Add", "o3 h", "y"),
    ]
    return model(nodes, [value("ids", ("n", "t"), onnx.TensorProto.INT64)], [value("y", ("n", "t", width))], weights)


def in_branches() -> onnx.ModelProto:
    """A weight in each branch of a conditional; an identity before it."""
    generator = np.random.default_rng(0)
    inner = []
    for name in "ab":
        made = node("MatMul", f"i w{name}", f"y{name}")
        weight = array(f"w{name}", generator.normal(size=(40, 40)))
        inner.append(onnx.helper.make_graph([made], name, [], [value(f"y{name}", ("n", 40))], [weight]))
    nodes = [node("Identity", "x", "i"), node("If", "c", "y", then_branch=inner[0], else_branch=inner[1])]
    return model(nodes, [value("x", ("n", 40)), value("c", (), onnx.TensorProto.BOOL)], [value("y", ("n", 40))])


def done(made: onnx.ModelProto, folder: Path) -> dict[str, Any]:
    """What becomes of a model whose data lies beside it."""
    path = folder / "model.onnx"
    onnx.save(made, path, save_as_external_data=True, location="data.bin", size_threshold=1024)
    (folder / "work").mkdir()
    steps = Steps(folder / "work", {}, lambda line: None)
    found = large.Large(Order(str(path), "", ("own",)), steps, admit(path)).run()
    if "sha256" in found:
        (folder / "after.onnx").write_bytes((folder / "work" / found["sha256"]).read_bytes())
    return found


def test_large_weights_become_inputs_and_come_back() -> None:
    made = blocks()
    bones = skeleton(blocks(), HERE)
    assert set(bones.held) == {"w0", "w1"}
    assert not bones.model.graph.initializer
    assert [one.name for one in bones.model.graph.input] == ["x", "w0", "w1"]
    again = bones.whole(bones.model)
    assert again.graph.initializer == made.graph.initializer
    assert again.graph.input == made.graph.input


def test_a_wrong_rewrite_is_caught() -> None:
    bones = skeleton(blocks(), HERE)
    reference = bones.reference(0)
    assert reference.check(bones.model) == 0
    wrong = onnx.ModelProto()
    wrong.CopyFrom(bones.model)
    wrong.graph.node[2].input[0] = "a0"  # without the second transpose
    with pytest.raises(StepError):
        reference.check(wrong)
    wrong.CopyFrom(bones.model)
    wrong.graph.node[6].input[1] = "w0"  # the other weight
    with pytest.raises(StepError, match="differ"):
        reference.check(wrong)


def test_outputs_that_tell_nothing_prove_nothing() -> None:
    weights = [array("w", np.ones((40, 40))), array("zero", 0.0)]
    made = model(
        [node("MatMul", "x w", "h"), node("Mul", "h zero", "y")], [value("x", ("n", 40))], [value("y")], weights
    )
    with pytest.raises(StepError, match="nothing to compare"):
        skeleton(made, HERE).reference(0)


@pytest.mark.parametrize(
    ("build", "before", "most"), [(blocks, 8, 4), (residual, 8, 7), (attention, 28, 27), (in_branches, 4, 3)]
)
def test_the_data_of_a_large_model_stays_where_it_is(build: Any, before: int, most: int, tmp_path: Path) -> None:
    found = done(build(), tmp_path)
    assert (found["verdict"], found["nodes_before"], found["copied"]) == ("optimized", before, ["data.bin"])
    assert found["nodes_after"] <= most
    loaded = {one.name: one for one in onnx.load(tmp_path / "after.onnx").graph.initializer}
    held = skeleton(take_off(build())[0], HERE).held
    assert held
    for name, wanted in held.items():
        assert np.array_equal(onnx.numpy_helper.to_array(loaded[name]), onnx.numpy_helper.to_array(wanted))
    told = {"path": str(tmp_path / "after.onnx"), "original": str(tmp_path / "model.onnx"), "seed": 0, "fused": ""}
    assert replay({**told, "proof": found["proof"]}, lambda line: None)["problem"] == ""


def test_another_large_model_is_found_by_its_certificate(tmp_path: Path) -> None:
    proof = done(residual(), tmp_path)["proof"]
    changed = onnx.load(tmp_path / "after.onnx", load_external_data=False)
    (add,) = (one for one in changed.graph.node if one.op_type == "Add")
    add.input[1] = add.input[0]
    (tmp_path / "changed.onnx").write_bytes(changed.SerializeToString())
    told = {"path": str(tmp_path / "changed.onnx"), "original": "", "seed": 0, "fused": "", "proof": proof}
    assert "differ by up to" in replay(told, lambda line: None)["problem"]


def test_both_branches_of_a_large_model_are_compared(tmp_path: Path) -> None:
    assert [set(one["seen"]) for one in done(in_branches(), tmp_path)["conditions"]] == [{"then", "else"}]


def test_numbers_for_weights_take_the_memory_of_the_largest() -> None:
    shapes = [(f"w{index}", "float32", (300, 400)) for index in range(50)] + [("v", "float32", (400,))]
    found = stand_ins(shapes, 0)
    bases = {id(one.base if one.base is not None else one): one.base for one in found.values()}
    assert sum(one.nbytes for one in bases.values()) == 4 * (300 * 400 + 400 + 2 * PLACES)
    tensors = {name: onnx.TensorProto(name=name, data_type=1, dims=shape) for name, _, shape in shapes}
    assert buffers_bytes(tensors) == 4 * (300 * 400 + 400)
    assert len({found[name].tobytes() for name, _, _ in shapes}) == 51, "each is another"
    assert found["v"].min() > 0, "it may be a variance"
    assert np.std(found["w0"]) == pytest.approx(1 / 16, rel=0.01)
