"""float16: the file halves, inputs and outputs keep their type, and what exceeds the range stays or is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from rayopt.compress.convert_fp16 import convert_fp16
from rayopt.compress.quantize_dynamic import quantize_dynamic
from rayopt.compress.settings import HalfSettings
from rayopt.errors import StepError
from rayopt.models.onnx_model import session, to_proto
from rayopt.records import Artifact

Array = np.ndarray[Any, Any]
node = onnx.helper.make_node
random = np.random.default_rng(0)
ROWS = random.normal(size=(16, 64)).astype(np.float32)
WEIGHTS_ONLY = HalfSettings(weights_only=True)


def weights(*shape: int) -> Array:
    return (random.normal(size=shape) / 8).astype(np.float32)


def two(make: Callable[..., Artifact], factor: float = 1.0) -> Artifact:
    nodes = [
        node("MatMul", ["x", "W1"], ["h"], name="first"),
        node("Tanh", ["h"], ["t"], name="squash"),
        node("MatMul", ["t", "W2"], ["y"], name="second"),
    ]
    return make(nodes, {"W1": weights(64, 64) * np.float32(factor), "W2": weights(64, 32)}, x=("n", 64))


@pytest.mark.parametrize("settings", [HalfSettings(), WEIGHTS_ONLY])
def test_the_file_halves_and_answers_alike(
    settings: HalfSettings, make: Callable[..., Artifact], close: Callable[..., None]
) -> None:
    model = two(make)
    after = convert_fp16(model, ROWS, settings)
    assert after.size_bytes < 0.55 * model.size_bytes
    assert after.notes["half_tensors_count"] == 2
    close(model, after, ROWS, 0.002)
    running = session(after)
    assert {one.type for one in [*running.get_inputs(), *running.get_outputs()]} == {"tensor(float)"}
    onnx.checker.check_model(to_proto(after))


def test_half_weights_are_computed_with_in_float32(make: Callable[..., Artifact]) -> None:
    after = convert_fp16(two(make), ROWS, WEIGHTS_ONLY)
    (output,) = session(after, optimize=False).run(None, {"x": ROWS})
    (folded,) = session(after).run(None, {"x": ROWS})
    np.testing.assert_allclose(output, folded, rtol=1e-5, atol=1e-6)
    casts = [one for one in to_proto(after).graph.node if one.op_type == "Cast"]
    assert [one.output[0] for one in casts] == ["W1", "W2"]


def test_weights_beyond_the_range_stay_in_float32(make: Callable[..., Artifact], close: Callable[..., None]) -> None:
    model = two(make, factor=1e6)
    for settings in (HalfSettings(), WEIGHTS_ONLY):
        after = convert_fp16(model, ROWS, settings)
        assert after.notes["half_tensors_count"] == 1
        close(model, after, ROWS, 0.002)
    assert convert_fp16(model, ROWS, WEIGHTS_ONLY).notes["beyond_range"] == ["W1"]
    only = make([node("MatMul", ["x", "W"], ["y"])], {"W": weights(64, 64) * np.float32(1e6)}, x=("n", 64))
    with pytest.raises(StepError, match="no weight was converted to float16: 'W' exceeds its range"):
        convert_fp16(only, ROWS, WEIGHTS_ONLY)
    with pytest.raises(StepError, match="no weight was converted to float16; 1 nodes are excluded or exceed"):
        convert_fp16(only, ROWS)


def test_activations_beyond_the_range_stay_in_float32(
    make: Callable[..., Artifact], close: Callable[..., None]
) -> None:
    nodes = [
        node("MatMul", ["x", "W1"], ["h"], name="first"),
        node("Mul", ["h", "large"], ["m"], name="up"),
        node("Div", ["m", "large"], ["d"], name="down"),
        node("MatMul", ["d", "W2"], ["y"], name="second"),
    ]
    tensors = {"W1": weights(64, 64), "W2": weights(64, 32), "large": np.float32([6e4])}
    model = make(nodes, tensors, x=("n", 64))
    after = convert_fp16(model, ROWS)
    assert after.notes["float32_nodes_count"] == 2
    close(model, after, ROWS, 0.003)


def test_an_output_beyond_the_range_keeps_its_values(make: Callable[..., Artifact], close: Callable[..., None]) -> None:
    nodes = [node("MatMul", ["x", "W"], ["h"], name="first"), node("Mul", ["h", "large"], ["y"], name="up")]
    model = make(nodes, {"W": weights(64, 64), "large": np.float32([6e4])}, x=("n", 64))
    close(model, convert_fp16(model, ROWS), ROWS, 0.002)


def test_rows_beyond_the_calibration_are_not_promised(make: Callable[..., Artifact]) -> None:
    model = two(make)
    with pytest.raises(StepError, match="0 calibration rows are too few"):
        convert_fp16(model, ROWS[:0])


def test_excluded_nodes_keep_float32(make: Callable[..., Artifact]) -> None:
    for settings in (HalfSettings(exclude=("sec*",)), HalfSettings(weights_only=True, exclude=("sec*",))):
        after = to_proto(convert_fp16(two(make), ROWS, settings))
        kinds = sorted(one.data_type for one in after.graph.initializer if len(one.dims) == 2)
        assert kinds == [onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16]


def test_a_float16_model_is_not_quantised_but_float16_weights_are(
    make: Callable[..., Artifact], close: Callable[..., None]
) -> None:
    model = two(make)
    with pytest.raises(StepError, match="the weights of 'first' are float16: begin with the float32 model"):
        quantize_dynamic(convert_fp16(model, ROWS))
    after = quantize_dynamic(convert_fp16(model, ROWS, WEIGHTS_ONLY))
    assert after.notes["quantized"] == {"MatMul": 2}
    close(model, after, ROWS, 0.03)
