"""A certificate tells whether a model is the one that was measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from rayopt import api
from rayopt.certificates import probe, verify_folder
from rayopt.models.onnx_model import from_proto


def logarithm() -> onnx.ModelProto:
    """log(x) of x (n, 3)."""
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Log", ["x"], ["y"])], "g", values[:1], values[1:])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def test_outputs_that_are_not_finite_are_written_as_nothing() -> None:
    rows = np.linspace(-5, -1, 12, dtype=np.float32).reshape(4, 3)
    told = probe(from_proto(logarithm()), rows, 0)
    assert told["outputs"] == [[None] * 3] * 2
    json.dumps(told, allow_nan=False)


def test_inputs_lie_where_the_data_does() -> None:
    rows = np.full((4, 3), 1900, np.float32) + np.arange(12, dtype=np.float32).reshape(4, 3)
    told = probe(from_proto(logarithm()), rows, 0)
    assert (np.asarray(told["outputs"]) > 7).all()


@pytest.fixture
def external(small_job: Callable[..., Path], tmp_path: Path) -> Path:
    """A run whose baseline has external data in a folder of its own."""
    job = small_job(model={"onnx": "given.onnx"}, train=None, steps=["quantize_static"])
    generator = np.random.default_rng(0)
    weights = onnx.numpy_helper.from_array(generator.normal(size=(4, 2)).astype(np.float32), "w")
    values = [
        onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4]),
        onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 2]),
    ]
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:], [weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "job" / "data").mkdir()
    onnx.save(
        model, tmp_path / "job" / "given.onnx", save_as_external_data=True, location="data/w.bin", size_threshold=0
    )
    api.run(job, tmp_path / "out", address="inprocess")
    return tmp_path / "out"


def test_external_data_in_a_folder_is_part_of_the_model(external: Path) -> None:
    assert [finding.problem for finding in verify_folder(external)][:1] == [""]
    (weights,) = external.glob("artifacts/*/data/w.bin")
    content = bytearray(weights.read_bytes())
    content[0] ^= 1
    weights.write_bytes(content)
    assert "data/w.bin is not what was measured" in verify_folder(external)[0].problem


def test_a_file_that_does_not_belong_there_is_told(external: Path) -> None:
    (weights,) = external.glob("artifacts/*/data/w.bin")
    (weights.parent / "more.bin").touch()
    assert verify_folder(external)[0].problem == "data/more.bin does not belong there"
