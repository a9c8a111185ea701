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
    assert told["outputs"] == [[[None] * 3] * 2]
    json.dumps(told, allow_nan=False)


def test_inputs_lie_where_the_data_does() -> None:
    rows = np.full((4, 3), 1900, np.float32) + np.arange(12, dtype=np.float32).reshape(4, 3)
    told = probe(from_proto(logarithm()), rows, 0)
    (outputs,) = map(np.asarray, told["outputs"])
    assert ((outputs >= np.log(1900)) & (outputs <= np.log(1911))).all()
    assert set(told) == {"seed", "inputs", "outputs"}
    assert set(told["inputs"][""]) == {"shape", "dtype", "low", "high", "whole"}, "no row of the data is in it"


def test_a_model_that_looks_its_first_column_up_is_asked_for_what_it_knows() -> None:
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["n", None]) for name in "xy"]
    tensors = [
        onnx.numpy_helper.from_array(np.array(value), name) for name, value in {"table": [7, 8, 9], "at": [0]}.items()
    ]
    nodes = [
        onnx.helper.make_node("Gather", ["x", "at"], ["first"], axis=1),
        onnx.helper.make_node("Gather", ["table", "first"], ["y"]),
    ]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    rows = np.array([[2, 1900], [0, 2000], [1, 1950]])
    drawn = [probe(from_proto(model), rows, seed)["outputs"] for seed in range(20)]
    assert {value for (outputs,) in drawn for (value,) in outputs} == {7, 8, 9}


def test_inputs_that_are_large_are_made_by_the_seed() -> None:
    rows = np.random.default_rng(0).uniform(5, 6, (3, 20_000, 3)).astype(np.float32)
    node = onnx.helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    told = probe(from_proto(model), rows, 0)
    (ranges,) = told["inputs"].values()
    assert (ranges["whole"], 5 <= ranges["low"] < ranges["high"] <= 6) == (False, True)
    np.testing.assert_allclose(told["outputs"][0], np.full((2, 3), 5.5), atol=0.01)
    assert told == probe(from_proto(model), rows, 0) != probe(from_proto(model), rows, 1)


@pytest.fixture(params=["data/w.bin", "./data/w.bin"])
def external(small_job: Callable[..., Path], tmp_path: Path, request: pytest.FixtureRequest) -> Path:
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
        model, tmp_path / "job" / "given.onnx", save_as_external_data=True, location=request.param, size_threshold=0
    )
    api.run(job, tmp_path / "out", address="inprocess")
    return tmp_path / "out"


def test_external_data_in_a_folder_is_part_of_the_model(external: Path) -> None:
    assert [finding.problem for finding in verify_folder(external)][:1] == [""]
    (weights,) = external.glob("artifacts/*/data/w.bin")
    content = bytearray(weights.read_bytes())
    content[0] ^= 1
    weights.write_bytes(content)
    assert "w.bin is not what was measured" in verify_folder(external)[0].problem


def test_a_file_that_does_not_belong_there_is_told(external: Path) -> None:
    (weights,) = external.glob("artifacts/*/data/w.bin")
    (weights.parent / "more.bin").touch()
    assert verify_folder(external)[0].problem == "data/more.bin does not belong there"


@pytest.mark.parametrize(("change", "problem"), [(1e-3, ""), (0.1, "its outputs differ by up to")])
def test_outputs_may_round_differently_elsewhere_but_not_differ(change: float, problem: str, external: Path) -> None:
    (path,) = {weights.parent.parent / "certificate.json" for weights in external.glob("artifacts/*/data/w.bin")}
    certificate = json.loads(path.read_text())
    outputs = np.asarray(certificate["probe"]["outputs"])
    outputs[outputs == np.abs(outputs).max()] *= 1 + change
    outputs[outputs == -np.abs(outputs).max()] *= 1 + change
    path.write_text(json.dumps(certificate | {"probe": certificate["probe"] | {"outputs": outputs.tolist()}}))
    found = verify_folder(external)[0].problem
    assert found.startswith(problem) if problem else found == ""


def test_a_certificate_that_tells_too_little_is_told(external: Path) -> None:
    (path,) = {weights.parent.parent / "certificate.json" for weights in external.glob("artifacts/*/data/w.bin")}
    certificate = json.loads(path.read_text())
    del certificate["probe"]["inputs"][""]["low"]
    path.write_text(json.dumps(certificate))
    assert verify_folder(external)[0].problem == "its certificate cannot be read (KeyError)"
