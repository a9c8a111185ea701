"""Blockwise weights: sizes as computed, errors as rounding allows, and what is not worth doing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from rayopt.compress.quantize_blocks import quantize_blocks
from rayopt.compress.settings import BlockSettings
from rayopt.errors import StepError
from rayopt.models.onnx_model import to_proto
from rayopt.records import Artifact

Array = np.ndarray[Any, Any]
node = onnx.helper.make_node
random = np.random.default_rng(0)
ROWS = random.normal(size=(32, 128)).astype(np.float32)


def weights(*shape: int) -> Array:
    return (random.normal(size=shape) / 11).astype(np.float32)


@pytest.fixture
def perceptron(make: Callable[..., Artifact]) -> Artifact:
    nodes = [
        node("Gemm", ["x", "W1", "b1"], ["h"], name="first", transB=1),
        node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "W2"], ["y"], name="second"),
    ]
    return make(nodes, {"W1": weights(256, 128), "b1": weights(256), "W2": weights(256, 64)}, x=("n", 128))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block_size", [32, 64, 128])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_file_shrinks_by_what_the_blocks_take(
    perceptron: Artifact, bits: Any, block_size: Any, symmetric: bool, close: Callable[..., None]
) -> None:
    after = quantize_blocks(perceptron, BlockSettings(bits=bits, block_size=block_size, symmetric=symmetric))
    assert (after.notes["quantized"], after.notes["left"]) == ({"Gemm": 1, "MatMul": 1}, {})
    values = 128 * 256 + 256 * 64
    scales = 4 * values // block_size
    expected = values * bits // 8 + scales + 4 * 256  # and the bias
    points = 0 if symmetric else values // block_size  # at most a byte each
    assert expected <= after.size_bytes < expected + points + 2000
    close(perceptron, after, ROWS, 0.2 if bits == 4 else 0.02)


@pytest.mark.parametrize("level", [0, 1, 4])
def test_the_accuracy_level_is_written_into_the_nodes(
    perceptron: Artifact, level: Any, close: Callable[..., None]
) -> None:
    after = quantize_blocks(perceptron, BlockSettings(bits=8, accuracy_level=level))
    found = [one for one in to_proto(after).graph.node if one.op_type == "MatMulNBits"]
    levels = [next((a.i for a in one.attribute if a.name == "accuracy_level"), 0) for one in found]
    assert levels == [level, level]
    close(perceptron, after, ROWS, 0.02)


def test_excluded_and_chosen_nodes(perceptron: Artifact) -> None:
    assert quantize_blocks(perceptron, BlockSettings(exclude=("first",))).notes["left"] == {"Gemm": 1}
    assert quantize_blocks(perceptron, only=["first"]).notes["left"] == {"MatMul": 1}
    with pytest.raises(StepError, match="no node is named 'frist'; did you mean 'first'"):
        quantize_blocks(perceptron, only=["frist"])


def test_a_matrix_that_would_not_shrink_is_left(make: Callable[..., Artifact]) -> None:
    nodes = [node("MatMul", ["x", "W1"], ["h"], name="narrow"), node("MatMul", ["h", "W2"], ["y"], name="wide")]
    model = make(nodes, {"W1": weights(8, 128), "W2": weights(128, 64)})
    after = quantize_blocks(model, BlockSettings(block_size=128))
    assert after.notes["left"] == {"MatMul": 1}
    assert any(one.name == "narrow" for one in to_proto(after).graph.node)
    with pytest.raises(StepError, match="no node was quantised"):
        quantize_blocks(make(nodes[:1], {"W1": weights(8, 128)}, outputs=("h",)), BlockSettings(block_size=128))
