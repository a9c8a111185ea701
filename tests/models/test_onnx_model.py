"""ONNX files: the gate that a foreign one passes, and predictions whatever its batch size and type."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rayopt.errors import InputError, StepError
from rayopt.models.onnx_model import (
    MODEL,
    check_fits,
    from_proto,
    node_count,
    on_disk,
    predict,
    read_file,
    session,
    signature,
    to_proto,
)

FEATURES = 40
WEIGHTS = np.random.default_rng(0).normal(size=(FEATURES, 2)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(11, FEATURES)).astype(np.float32)


def value(name: str, kind: int, shape: list[Any] | None) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def proto(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: bool = True) -> Any:
    held = [numpy_helper.from_array(WEIGHTS, "w")] if weights else []
    graph = helper.make_graph(nodes, "graph", inputs, outputs, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def linear(batch: int | str = "n", kind: int = TensorProto.FLOAT) -> Any:
    """x @ w, for rows of any type that is cast to float."""
    cast = helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT)
    product = helper.make_node("MatMul", ["f", "w"], ["y"])
    return proto([cast, product], [value("x", kind, [batch, FEATURES])], [value("y", TensorProto.FLOAT, [batch, 2])])


def written(folder: Path, content: bytes, name: str = "net.onnx") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_file(path, "job.yaml:3: model.onnx")
    (fault,) = caught.value.faults
    assert fault.place == "job.yaml:3: model.onnx"
    assert fault.remedy
    assert "\n" not in str(fault)
    return f"{fault.problem}; {fault.remedy}"


def unfit(model: Any, x: np.ndarray = X[:2], outputs: int = 2) -> str:
    with pytest.raises(InputError) as caught:
        check_fits(from_proto(model), x, (outputs,), "here")
    (fault,) = caught.value.faults
    assert fault.place == "here"
    assert fault.remedy
    return fault.problem


# The gate


def test_a_good_file_is_taken_as_it_is(tmp_path: Path) -> None:
    content = linear().SerializeToString()
    artifact = read_file(written(tmp_path, content), "here")
    assert artifact.format == "onnx"
    assert artifact.files == {MODEL: content}


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert refused(written(tmp_path, b"")) == "net.onnx is empty; export the model again"


def test_a_file_that_was_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    content = linear().SerializeToString()
    for length in range(1, len(content)):
        assert "export the model again" in refused(written(tmp_path, content[:length]))


@pytest.mark.parametrize("content", [b"garbage" * 30, b"\x00" * 64, b"PK\x03\x04", b'{"ir_version": 8}', b"\x08\x09"])
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    assert refused(written(tmp_path, content)).startswith("net.onnx ")


def test_a_graph_without_nodes_is_refused(tmp_path: Path) -> None:
    empty = proto([], [value("x", TensorProto.FLOAT, [1])], [value("x", TensorProto.FLOAT, [1])], weights=False)
    assert refused(written(tmp_path, empty.SerializeToString())).startswith("net.onnx has a graph without nodes")


def test_an_operator_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    model = linear()
    model.graph.node[0].op_type = "Castle"
    assert "net.onnx is not a valid model (No Op registered for Castle" in refused(
        written(tmp_path, model.SerializeToString())
    )


# External data


@pytest.fixture
def external(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a model whose weights are said to be at a place of one's choice; they are really at `net/w.bin`."""
    folder = tmp_path / "net"
    folder.mkdir()
    onnx.save_model(
        linear(), str(folder / "net.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0
    )  # fmt: skip
    written(tmp_path, (folder / "w.bin").read_bytes(), "outside.bin")
    written(folder, (folder / "w.bin").read_bytes(), MODEL)

    def at(location: str) -> Path:
        model = onnx.load(str(folder / "net.onnx"), load_external_data=False)
        for entry in model.graph.initializer[0].external_data:
            if entry.key == "location":
                entry.value = location
        return written(folder, model.SerializeToString())

    return at


@pytest.mark.parametrize("location", ["w.bin", "./w.bin", "weights/w.bin"])
def test_external_data_in_the_folder_comes_along(
    tmp_path: Path, external: Callable[[str], Path], location: str
) -> None:
    (tmp_path / "net" / "weights").mkdir()
    written(tmp_path / "net", WEIGHTS.tobytes(), "weights/w.bin")
    path = external(location)
    artifact = read_file(path, "here")
    assert set(artifact.files) == {MODEL, location}
    assert artifact.size_bytes == path.stat().st_size + WEIGHTS.nbytes
    np.testing.assert_allclose(predict(session(artifact), X), X @ WEIGHTS, rtol=1e-4, atol=1e-5)
    assert numpy_helper.to_array(to_proto(artifact).graph.initializer[0]).tobytes() == WEIGHTS.tobytes()


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        ("../outside.bin", "net.onnx has external data outside its folder (../outside.bin)"),
        ("{folder}/outside.bin", "net.onnx has external data outside its folder"),
        ("{folder}/net/w.bin", "net.onnx has external data outside its folder"),
        ("weights/../w.bin", "net.onnx has external data outside its folder (weights/../w.bin)"),
        ("link.bin", "net.onnx has external data outside its folder (link.bin)"),
        ("up/outside.bin", "net.onnx has external data outside its folder (up/outside.bin)"),
        ("near.bin", "external data 'near.bin' of net.onnx is a link"),
        ("gone.bin", "external data 'gone.bin' of net.onnx is not there"),
        ("", "external data '' of net.onnx is not there"),
        (MODEL, f"external data of net.onnx is named {MODEL}"),
        (f"./{MODEL}", f"external data of net.onnx is named ./{MODEL}"),
        ("certificate.json", "external data of net.onnx is named certificate.json"),
        ("./certificate.json", "external data of net.onnx is named ./certificate.json"),
        ("a\0b", "external data of net.onnx cannot be read: embedded null byte"),
        ("x" * 300, "external data of net.onnx cannot be read: [Errno 36] File name too long"),
    ],
)
def test_external_data_anywhere_else_is_refused(
    tmp_path: Path, external: Callable[[str], Path], location: str, problem: str
) -> None:
    folder = tmp_path / "net"
    (folder / "weights").mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    (folder / "near.bin").symlink_to(folder / "w.bin")
    (folder / "up").symlink_to(tmp_path)
    assert refused(external(location.replace("{folder}", str(tmp_path)))).startswith(problem)


def test_external_data_that_is_too_short_does_not_fit(tmp_path: Path, external: Callable[[str], Path]) -> None:
    os.truncate(tmp_path / "net" / "w.bin", 8)
    artifact = read_file(external("w.bin"), "here")
    with pytest.raises(InputError, match="ONNX Runtime does not load the model"):
        check_fits(artifact, X[:2], (2,), "here")


# Predictions


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 11])
@pytest.mark.parametrize("batch", ["n", 4, 1])
def test_rows_are_predicted_whatever_the_batch_size(rows: int, batch: int | str) -> None:
    found = predict(session(from_proto(linear(batch))), X[:rows], batch_size=3)
    np.testing.assert_allclose(found, X[:rows] @ WEIGHTS, rtol=1e-4, atol=1e-5)


def test_a_fixed_batch_is_seen() -> None:
    assert signature(session(from_proto(linear(4)))).fixed_batch == 4
    assert signature(session(from_proto(linear("n")))).fixed_batch is None


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (TensorProto.INT64, np.int64), (TensorProto.INT32, np.int32), (TensorProto.UINT8, np.uint8),
        (TensorProto.DOUBLE, np.float64), (TensorProto.FLOAT16, np.float16),
    ],
)  # fmt: skip
def test_rows_are_fed_in_the_type_of_the_input(kind: int, dtype: type[np.generic]) -> None:
    rows = np.arange(5 * FEATURES).reshape(5, FEATURES) % 7
    found = predict(session(from_proto(linear(kind=kind))), rows.astype(np.float32))
    np.testing.assert_allclose(found, rows.astype(dtype).astype(np.float32) @ WEIGHTS, rtol=1e-4, atol=1e-5)


def test_nodes_of_inner_graphs_are_counted_and_constants_are_not() -> None:
    out = value("z", TensorProto.FLOAT, None)
    inner = helper.make_graph([helper.make_node("Identity", ["f"], ["z"])], "inner", [], [out])
    model = linear()
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))
    branch = helper.make_node("If", ["c"], ["u"], then_branch=inner, else_branch=inner)
    model.graph.node.extend([constant, branch])
    assert node_count(model) == 2 + 1 + 2


def test_an_artifact_is_on_disk_only_for_as_long_as_asked(tmp_path: Path) -> None:
    with on_disk(from_proto(linear())) as path:
        assert onnx.load(str(path)).graph.name == "graph"
    assert not path.parent.exists()


# Models that do not fit


def test_a_model_that_fits_is_taken() -> None:
    check_fits(from_proto(linear()), X[:2], (2,), "here")
    check_fits(from_proto(linear(7)), X[:2], (2,), "here")


def test_a_single_output_is_enough_for_two_classes() -> None:
    narrow = linear()
    narrow.graph.initializer[0].CopyFrom(numpy_helper.from_array(WEIGHTS[:, :1], "w"))
    narrow.graph.output[0].CopyFrom(value("y", TensorProto.FLOAT, ["n", 1]))
    check_fits(from_proto(narrow), X[:2], (2,), "here")
    check_fits(from_proto(narrow), X[:2], (1,), "here")
    assert unfit(narrow, outputs=3) == "gives (2, 1) for 2 rows"


def test_another_number_of_outputs_is_told() -> None:
    assert unfit(linear(), outputs=3) == "gives (2, 2) for 2 rows"


def test_rows_of_another_shape_are_told() -> None:
    assert unfit(linear(), X[:2, :5]).startswith("does not take this data of shape (2, 5): ONNX Runtime does not run")


def test_several_inputs_are_told() -> None:
    model = linear()
    model.graph.input.append(value("mask", TensorProto.FLOAT, [1]))
    assert unfit(model).endswith("the model has 2 inputs (x, mask), the data one: name each in `features:`")


def test_an_input_of_text_is_told() -> None:
    kind = TensorProto.STRING
    model = proto([helper.make_node("Identity", ["x"], ["y"])], [value("x", kind, ["n", 2])], [value("y", kind, None)])
    assert unfit(model).endswith("the input 'x' is of type tensor(string), which is not supported")


def test_an_output_that_is_no_row_for_each_row_is_told() -> None:
    x = value("x", TensorProto.FLOAT, ["n", FEATURES])
    total = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
    assert unfit(proto([total], [x], [value("y", TensorProto.FLOAT, [])])).endswith(
        "the model's output 'y' is () for 2 rows, not one row for each"
    )
    both = helper.make_node("SequenceConstruct", ["x"], ["y"])
    sequence = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    assert unfit(proto([both], [x], [sequence])).endswith(
        "the model's output 'y' is list for 2 rows, not one row for each"
    )


def test_what_the_runtime_does_not_load_is_a_step_error() -> None:
    model = linear()
    model.graph.node[0].op_type = "Castle"
    with pytest.raises(StepError, match="ONNX Runtime does not load the model: "):
        session(from_proto(model))
