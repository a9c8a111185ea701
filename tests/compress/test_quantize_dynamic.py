"""Dynamic quantisation: each operator that it promises, counted and compared with the float model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from rayopt.compress.quantize_dynamic import quantize_dynamic
from rayopt.compress.quantize_static import quantize_static
from rayopt.compress.settings import DynamicSettings, StaticSettings
from rayopt.errors import StepError
from rayopt.models.onnx_model import to_proto
from rayopt.records import Artifact

Array = np.ndarray[Any, Any]
node = onnx.helper.make_node
random = np.random.default_rng(0)
ROWS = random.normal(size=(32, 64)).astype(np.float32)
STEPS = random.normal(size=(5, 8, 16)).astype(np.float32)  # (time, batch, features)
TOKENS = random.integers(0, 100, (20, 6))


def weights(*shape: int) -> Array:
    return (random.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)


@pytest.fixture
def perceptron(make: Callable[..., Artifact]) -> Artifact:
    nodes = [
        node("Gemm", ["x", "W1", "b1"], ["h"], name="first", transB=1, alpha=0.5, beta=2.0),
        node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "W2"], ["y"], name="second"),
    ]
    tensors = {"W1": weights(128, 64), "b1": weights(128), "W2": weights(128, 16)}
    return make(nodes, tensors, x=("n", 64))


@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_gemm_is_quantised_as_matmul_is(
    perceptron: Artifact, kind: Any, per_channel: bool, close: Callable[..., None]
) -> None:
    after = quantize_dynamic(perceptron, DynamicSettings(weights=kind, per_channel=per_channel))
    assert (after.notes["quantized"], after.notes["left"]) == ({"Gemm": 1, "MatMul": 1}, {})
    assert after.notes["quantized_nodes_count"] == 2
    assert after.size_bytes < 0.4 * perceptron.size_bytes
    close(perceptron, after, ROWS, 0.03)


def test_a_gemm_that_is_not_wanted_stays_in_float(perceptron: Artifact, close: Callable[..., None]) -> None:
    for settings in (DynamicSettings(operators=("MatMul",)), DynamicSettings(exclude=("fir*",))):
        after = quantize_dynamic(perceptron, settings)
        assert (after.notes["quantized"], after.notes["left"]) == ({"MatMul": 1}, {"Gemm": 1})
        close(perceptron, after, ROWS, 0.03)
    assert quantize_dynamic(perceptron, only=["first"]).notes["left"] == {"MatMul": 1}


def test_lstm_that_share_weights(make: Callable[..., Artifact], close: Callable[..., None]) -> None:
    nodes = [
        node("LSTM", ["x", "W", "R", "B"], ["", "h1"], name="one", hidden_size=16),
        node("Neg", ["x"], ["minus"]),
        node("LSTM", ["minus", "W", "R", "B"], ["", "h2"], name="two", hidden_size=16),
        node("Concat", ["h1", "h2"], ["y"], axis=2),
    ]
    model = make(
        nodes, {"W": weights(1, 64, 16) / 4, "R": weights(1, 64, 16) / 4, "B": weights(1, 128) / 4}, x=("t", "n", 16)
    )
    for per_channel in (True, False):
        after = quantize_dynamic(model, DynamicSettings(per_channel=per_channel))
        assert after.notes["quantized"] == {"LSTM": 2}
        close(model, after, STEPS, 0.05)


def test_gru_stays_in_float_and_is_counted(make: Callable[..., Artifact], close: Callable[..., None]) -> None:
    nodes = [
        node("GRU", ["x", "W", "R"], ["", "h"], name="gru", hidden_size=16),
        node("Squeeze", ["h", "zero"], ["s"]),
        node("MatMul", ["s", "V"], ["y"]),
    ]
    tensors = {"W": weights(1, 48, 16), "R": weights(1, 48, 16) / 4, "V": weights(16, 4), "zero": np.array([0])}
    model = make(nodes, tensors, x=("t", "n", 16))
    after = quantize_dynamic(model)
    assert (after.notes["quantized"], after.notes["left"]) == ({"MatMul": 1}, {"GRU": 1})
    close(model, after, STEPS, 0.03)


def test_attention_is_quantised(make: Callable[..., Artifact], close: Callable[..., None]) -> None:
    attention = node("Attention", ["x", "W", "b"], ["y"], name="attention", num_heads=2, domain="com.microsoft")
    model = make([attention], {"W": weights(16, 48), "b": weights(48)}, x=("n", 5, 16))
    after = quantize_dynamic(model)
    assert after.notes["quantized"] == {"Attention": 1}
    close(model, after, STEPS.transpose(1, 0, 2), 0.06)


@pytest.mark.parametrize("tied", [False, True])
def test_embeddings_of_integers_are_quantised_on_request(
    tied: bool, make: Callable[..., Artifact], close: Callable[..., None]
) -> None:
    nodes = [
        node("Gather", ["E", "x"], ["e"], name="embedding"),
        node("ReduceMean", ["e"], ["m"], axes=[1], keepdims=0),
        node("Gemm", ["m", "E" if tied else "W"], ["y"], name="head", transB=1),
    ]
    tensors = {"E": weights(100, 32)} | ({} if tied else {"W": weights(10, 32)})
    model = make(nodes, tensors, x=("n", 6), kind=onnx.TensorProto.INT64)
    after = quantize_dynamic(model)
    assert (after.notes["quantized"], after.notes["left"]) == ({"Gemm": 1}, {"Gather": 1})
    close(model, after, TOKENS, 0.03)
    smaller = quantize_dynamic(model, DynamicSettings(operators=("Gemm", "Gather")))
    assert smaller.notes["left"] == {}
    assert smaller.size_bytes < 0.7 * after.size_bytes
    close(model, smaller, TOKENS, 0.04)


def test_convolutions_are_left_unless_they_are_asked_for(
    make: Callable[..., Artifact], close: Callable[..., None]
) -> None:
    nodes = [
        node("Conv", ["x", "W"], ["c"], name="conv"),
        node("Flatten", ["c"], ["f"]),
        node("MatMul", ["f", "V"], ["y"], name="head"),
    ]
    model = make(nodes, {"W": weights(8, 3, 3, 3), "V": weights(8 * 16, 4)}, x=("n", 3, 6, 6))
    rows = random.normal(size=(8, 3, 6, 6)).astype(np.float32)
    after = quantize_dynamic(model)
    assert (after.notes["quantized"], after.notes["left"]) == ({"MatMul": 1}, {"Conv": 1})
    both = quantize_dynamic(model, DynamicSettings(operators=("Conv", "MatMul")))
    assert both.notes["left"] == {}
    close(model, both, rows, 0.05)
    first = quantize_static(model, rows, StaticSettings(operators=("Conv",)))
    then = quantize_dynamic(first)
    assert then.notes["quantized"] == {"MatMul": 1}
    assert {"QuantizeLinear", "MatMulInteger"} <= {one.op_type for one in to_proto(then).graph.node}
    close(model, then, rows, 0.05)


def test_a_reduced_range_leaves_weights_seven_bits(perceptron: Artifact) -> None:
    proto = to_proto(quantize_dynamic(perceptron, DynamicSettings(reduce_range=True)))
    stored = [onnx.numpy_helper.to_array(one) for one in proto.graph.initializer if len(one.dims) == 2]
    assert max(int(np.abs(array.astype(int)).max()) for array in stored if array.dtype == np.int8) == 64


def test_products_of_two_activations_are_no_layers(make: Callable[..., Artifact]) -> None:
    model = make([node("Transpose", ["x"], ["t"], perm=[1, 0]), node("MatMul", ["x", "t"], ["y"])], {})
    with pytest.raises(StepError, match=r"no node was quantised \(operators: MatMul, Transpose\)"):
        quantize_dynamic(model)
