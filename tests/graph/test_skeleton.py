"""Large models are proven on a twin with short axes, and their data comes back by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from rayopt.errors import StepError
from rayopt.graph import large
from rayopt.graph.gate import admit
from rayopt.graph.order import Order
from rayopt.graph.skeleton import skeleton, twin, whole_again
from rayopt.graph.steps import Steps
from tests.graph.hostile import array, model, node, value


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


def test_large_weights_become_inputs_and_come_back() -> None:
    made = blocks()
    bones = skeleton(blocks())
    assert set(bones.held) == {"w0", "w1"}
    assert not bones.model.graph.initializer
    assert [one.name for one in bones.model.graph.input] == ["x", "w0", "w1"]
    again = whole_again(bones.model, bones.held)
    assert again.graph.initializer == made.graph.initializer
    assert again.graph.input == made.graph.input


def test_a_wrong_rewrite_is_caught_on_the_twin() -> None:
    bones = skeleton(blocks())
    small = twin(bones, 0)
    assert small.sizes == {40: 6}
    assert small.check(bones.model) == 0
    wrong = onnx.ModelProto()
    wrong.CopyFrom(bones.model)
    wrong.graph.node[2].input[0] = "a0"  # without the second transpose
    with pytest.raises(StepError):
        small.check(wrong)
    wrong.CopyFrom(bones.model)
    wrong.graph.node[6].input[1] = "w0"  # the other weight
    with pytest.raises(StepError, match="differ"):
        small.check(wrong)


def test_the_data_of_a_large_model_stays_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(blocks(), path, save_as_external_data=True, location="data.bin", size_threshold=0)
    (tmp_path / "work").mkdir()
    steps = Steps(tmp_path / "work", {}, lambda line: None)
    found = large.Large(Order(str(path), "", ("own",)), steps, admit(path)).run()
    assert (found["verdict"], found["nodes_before"], found["copied"]) == ("optimized", 8, ["data.bin"])
    assert found["nodes_after"] == 4
    made = tmp_path / "after.onnx"
    made.write_bytes((tmp_path / "work" / found["sha256"]).read_bytes())
    loaded = onnx.load(made)
    for weight, wanted in zip(loaded.graph.initializer, blocks().graph.initializer, strict=True):
        assert np.array_equal(onnx.numpy_helper.to_array(weight), onnx.numpy_helper.to_array(wanted))
