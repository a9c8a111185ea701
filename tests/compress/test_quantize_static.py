"""Static quantisation: formats, types, calibration rows, and what stays in float."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from pydantic import ValidationError

from rayopt.compress.onnx_layers import layers
from rayopt.compress.quantize_static import calibrate, quantize_only, quantize_static
from rayopt.compress.settings import StaticSettings
from rayopt.errors import StepError
from rayopt.measure.metrics import r2
from rayopt.models.onnx_model import from_proto, predict, session, to_proto
from rayopt.records import Artifact

Array = np.ndarray[Any, Any]
node = onnx.helper.make_node
random = np.random.default_rng(0)
ROWS = random.normal(size=(48, 3, 8, 8)).astype(np.float32)


def weights(*shape: int) -> Array:
    return (random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


@pytest.fixture
def cnn(make: Callable[..., Artifact]) -> Artifact:
    """Convolutions with a shortcut, one of them depthwise with channels of very different size, and a Gemm."""
    spread = np.geomspace(0.01, 10, 16).astype(np.float32)[:, None, None, None]
    tensors = {
        "W1": weights(16, 3, 3, 3), "b1": weights(16, 1)[:, 0], "W2": weights(16, 1, 3, 3) * spread,
        "W3": weights(16, 16, 1, 1), "W4": weights(10, 16), "b4": weights(10, 1)[:, 0],
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "W1", "b1"], ["c1"], name="stem", pads=[1] * 4),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "W2"], ["c2"], name="depthwise", pads=[1] * 4, group=16),
        node("Conv", ["c2", "W3"], ["c3"], name="pointwise"),
        node("Add", ["c3", "r1"], ["a"]),
        node("GlobalAveragePool", ["a"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "W4", "b4"], ["y"], name="head", transB=1),
    ]
    return make(nodes, tensors, x=("n", 3, 8, 8))


@pytest.mark.parametrize("format", ["qdq", "qoperator"])
@pytest.mark.parametrize(
    ("activations", "types"), [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8"), ("uint16", "int8")]
)
@pytest.mark.parametrize("per_channel", [True, False])
def test_every_combination_of_types_answers_like_the_float_model(
    cnn: Artifact, exact: Callable[..., Any], format: str, activations: str, types: str, per_channel: bool
) -> None:
    told: dict[str, Any] = {"format": format, "activations": activations, "weights": types, "per_channel": per_channel}
    refused = {("uint16", True): "uint16 needs", ("uint16", False): "uint16 needs"} | (
        {("uint8", True): "uint8 weights per channel need"} if types == "uint8" else {}
    )
    if format == "qoperator" and (activations, per_channel) in refused:
        with pytest.raises(ValidationError, match=f"{refused[activations, per_channel]} format: qdq"):
            StaticSettings(**told)
        return
    after = quantize_static(cnn, ROWS, StaticSettings(**told))
    assert after.notes["quantized"] == {"Conv": 3, "Gemm": 1}
    assert after.notes["left"] == {}
    has_exact_kernels = (format, activations) != ("qoperator", "int8")
    running = exact(after) if has_exact_kernels else session(after)
    error = 1 - r2(predict(session(cnn), ROWS), predict(running, ROWS))
    assert error < (0.02 if per_channel else 0.1)
    kinds = {tensor.data_type for tensor in to_proto(after).graph.initializer if len(tensor.dims) > 1}
    assert kinds == {onnx.TensorProto.INT8 if types == "int8" else onnx.TensorProto.UINT8}


def test_a_scale_for_each_channel_is_what_a_depthwise_convolution_needs(cnn: Artifact) -> None:
    wanted = predict(session(cnn), ROWS)
    errors = [
        1 - r2(wanted, predict(session(quantize_only(cnn, ROWS, ["depthwise"], StaticSettings(per_channel=one))), ROWS))
        for one in (True, False)
    ]
    assert errors[0] < errors[1] / 2


def test_int8_activations_with_uint8_weights_are_refused() -> None:
    with pytest.raises(ValidationError, match="int8 activations need int8 weights"):
        StaticSettings(activations="int8", weights="uint8")


@pytest.mark.parametrize("reduce_range", [False, True])
def test_a_reduced_range_leaves_weights_seven_bits(cnn: Artifact, reduce_range: bool) -> None:
    proto = to_proto(quantize_static(cnn, ROWS, StaticSettings(reduce_range=reduce_range)))
    stored = [onnx.numpy_helper.to_array(one) for one in proto.graph.initializer if len(one.dims) == 4]
    largest = max(int(np.abs(array.astype(int)).max()) for array in stored)
    assert largest == (64 if reduce_range else 127)


def test_symmetric_activations_have_no_zero_points(cnn: Artifact) -> None:
    proto = to_proto(quantize_static(cnn, ROWS, StaticSettings(activations="int8", symmetric=True)))
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in proto.graph.initializer}
    points = [constants[one.input[2]] for one in proto.graph.node if one.op_type == "QuantizeLinear"]
    assert points
    assert all((point == 0).all() for point in points)


def test_excluded_nodes_and_other_operators_stay_in_float(cnn: Artifact) -> None:
    after = quantize_static(cnn, ROWS, StaticSettings(exclude=("st*", "head")))
    assert (after.notes["quantized"], after.notes["left"]) == ({"Conv": 2}, {"Conv": 1, "Gemm": 1})
    after = quantize_static(cnn, ROWS, StaticSettings(operators=("Gemm",)))
    assert (after.notes["quantized"], after.notes["left"]) == ({"Gemm": 1}, {"Conv": 3})
    with pytest.raises(StepError, match="exclude: no node is named 'steem'; did you mean 'stem'"):
        quantize_static(cnn, ROWS, StaticSettings(exclude=("steem",)))


def test_one_layer_at_a_time_from_ranges_that_were_found_once(cnn: Artifact) -> None:
    found = layers(cnn)
    assert [(one.name, one.operator, one.weight_bytes) for one in found] == [
        ("stem", "Conv", 4 * 16 * 27), ("depthwise", "Conv", 4 * 16 * 9), ("pointwise", "Conv", 4 * 256),
        ("head", "Gemm", 4 * 160),
    ]  # fmt: skip
    ranges = calibrate(cnn, ROWS)
    wanted = predict(session(cnn), ROWS)
    for one in found:
        alone = quantize_only(cnn, ROWS, [one.name], ranges=ranges)
        assert alone.notes["quantized"] == {one.operator: 1}
        assert alone.sha256 == quantize_only(cnn, ROWS, [one.name]).sha256
        assert 0 < 1 - r2(wanted, predict(session(alone), ROWS)) < 0.02
    everything = quantize_static(cnn, [], ranges=ranges)
    assert everything.sha256 == quantize_static(cnn, ROWS).sha256
    with pytest.raises(StepError, match="no node is named 'stam'; did you mean 'stem'"):
        quantize_only(cnn, ROWS, ["stam"])
    with pytest.raises(StepError, match="no node is to be quantised"):
        quantize_only(cnn, ROWS, [])


@dataclass(frozen=True)
class Several:
    """Rows of a model with several inputs."""

    arrays: Mapping[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, rows: slice) -> Several:
        return Several({name: array[rows] for name, array in self.arrays.items()})


def test_rows_may_have_several_inputs() -> None:
    given = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4]) for name in "ab"]
    made = [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 6])]
    nodes = [node("Mul", ["a", "b"], ["m"]), node("MatMul", ["m", "W"], ["y"], name="product")]
    constants = [onnx.numpy_helper.from_array(weights(4, 6), "W")]
    graph = onnx.helper.make_graph(nodes, "g", given, made, constants)
    model = from_proto(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8))
    arrays = {name: random.normal(size=(40, 4)).astype(np.float32) for name in "ba"}
    after = quantize_static(model, Several(arrays))
    wanted, got = (session(one).run(None, arrays)[0] for one in (model, after))
    assert 1 - r2(wanted, got) < 0.001
    with pytest.raises(StepError, match="lack the input 'b'; they have a"):
        quantize_static(model, Several({"a": arrays["a"]}))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (ROWS[:0], "0 calibration rows are too few"),
        (ROWS[:, :2], r"calibration rows are of shape \(2, 8, 8\); the input 'x' takes \(3, 8, 8\)"),
        (ROWS.reshape(48, -1), r"calibration rows are of shape \(192,\)"),
        (np.where(ROWS > 2, np.nan, ROWS), "calibration rows hold NaN or infinite values"),
        (np.where(ROWS > 2, np.inf, ROWS), "calibration rows hold NaN or infinite values"),
    ],
)
def test_rows_that_cannot_calibrate_say_why(cnn: Artifact, rows: Array, says: str) -> None:
    with pytest.raises(StepError, match=says):
        quantize_static(cnn, rows)


def test_a_fixed_batch_needs_as_many_rows(make: Callable[..., Artifact], close: Callable[..., None]) -> None:
    model = make([node("MatMul", ["x", "W"], ["y"])], {"W": weights(8, 8)}, x=(16, 8))
    rows = random.normal(size=(40, 8)).astype(np.float32)
    close(model, quantize_static(model, rows), rows[:16], 0.02)
    with pytest.raises(StepError, match="15 calibration rows are too few; the model takes batches of 16"):
        quantize_static(model, rows[:15])


def test_a_model_that_is_quantised_is_not_quantised_again(cnn: Artifact) -> None:
    with pytest.raises(StepError, match="quantised already"):
        quantize_static(quantize_static(cnn, ROWS), ROWS)
