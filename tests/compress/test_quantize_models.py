"""Unusual models: each is quantised rightly, left in part with a count, or refused with a reason."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rayopt.compress import onnx_layers
from rayopt.compress.convert_fp16 import convert_fp16
from rayopt.compress.onnx_layers import layers
from rayopt.compress.quantize_blocks import quantize_blocks
from rayopt.compress.quantize_dynamic import quantize_dynamic
from rayopt.compress.quantize_static import quantize_static
from rayopt.compress.settings import BlockSettings, DynamicSettings, HalfSettings, StaticSettings
from rayopt.errors import StepError
from rayopt.graph.export import export
from rayopt.measure.metrics import r2
from rayopt.models.onnx_model import MODEL, predict, session, to_proto
from rayopt.records import Artifact

Array = np.ndarray[Any, Any]
Make = Callable[..., Artifact]
Close = Callable[..., None]
node = onnx.helper.make_node
random = np.random.default_rng(0)
ROWS = random.normal(size=(40, 8)).astype(np.float32)
IMAGES = random.normal(size=(24, 3, 8, 8)).astype(np.float32)
QOPERATOR = StaticSettings(format="qoperator")
WAYS: dict[str, Callable[[Artifact, Array], Artifact]] = {
    "dynamic": lambda model, rows: quantize_dynamic(model),
    "qdq": quantize_static,
    "qoperator": lambda model, rows: quantize_static(model, rows, QOPERATOR),
    "blocks": lambda model, rows: quantize_blocks(model, BlockSettings(bits=8, block_size=16)),
    "half": convert_fp16,
    "half weights": lambda model, rows: convert_fp16(model, rows, HalfSettings(weights_only=True)),
}
every_way = pytest.mark.parametrize("way", WAYS)


def weights(*shape: int) -> Array:
    return (random.normal(size=shape) / 3).astype(np.float32)


def branch(name: str, nodes: Sequence[onnx.NodeProto], out: str, tensors: dict[str, Array]) -> onnx.GraphProto:
    constants = [onnx.numpy_helper.from_array(array, key) for key, array in tensors.items()]
    value = onnx.helper.make_tensor_value_info(out, onnx.TensorProto.FLOAT, None)
    return onnx.helper.make_graph(list(nodes), name, [], [value], constants)


@every_way
def test_nodes_inside_a_branch(way: str, make: Make, close: Close) -> None:
    """An initialiser of its own in one branch, one of the outer graph in the other; only `blocks` goes inside."""
    then = branch("then", [node("MatMul", ["x", "W1"], ["t"], name="inner")], "t", {"W1": weights(8, 64)})
    other = branch("else", [node("MatMul", ["x", "W2"], ["e"], name="outer")], "e", {})
    nodes = [
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Greater", ["s", "zero"], ["c"]),
        node("If", ["c"], ["h"], name="if", then_branch=then, else_branch=other),
        node("MatMul", ["h", "W3"], ["y"], name="after"),
    ]
    model = make(nodes, {"zero": np.float32(0), "W2": weights(8, 64), "W3": weights(64, 16)})
    assert {one.name: one.nested for one in layers(model)} == {"inner": True, "outer": True, "after": False}
    after = WAYS[way](model, ROWS)
    if way in ("dynamic", "qdq", "qoperator"):
        assert (after.notes["quantized"], after.notes["left"]) == ({"MatMul": 1}, {"MatMul": 2})
    elif way == "blocks":
        assert (after.notes["quantized"], after.notes["left"]) == ({"MatMul": 3}, {})
    both = [np.abs(ROWS[:32]), -np.abs(ROWS[:32])]
    after = WAYS[way](model, np.concatenate(both))  # a batch for each branch
    for rows in both:
        close(model, after, rows, 0.04)


@every_way
def test_nodes_inside_a_loop(way: str, make: Make, close: Close) -> None:
    values = [("i", onnx.TensorProto.INT64), ("go", onnx.TensorProto.BOOL), ("a", onnx.TensorProto.FLOAT)]
    given = [onnx.helper.make_tensor_value_info(name, kind, [] if name != "a" else None) for name, kind in values]
    made = [
        onnx.helper.make_tensor_value_info("again", onnx.TensorProto.BOOL, []),
        onnx.helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, None),
    ]
    steps = [
        node("MatMul", ["a", "W"], ["p"], name="inner"), node("Tanh", ["p"], ["b"]), node("Identity", ["go"], ["again"])
    ]  # fmt: skip
    body = onnx.helper.make_graph(steps, "body", given, made)
    nodes = [
        node("MatMul", ["x", "V"], ["h"], name="before"),
        node("Loop", ["three", "true", "h"], ["y"], name="loop", body=body),
    ]
    tensors = {"V": weights(8, 32), "W": weights(32, 32), "three": np.int64(3), "true": np.array(True)}
    model = make(nodes, tensors)
    after = WAYS[way](model, ROWS)
    if not way.startswith("half"):
        assert after.notes["left"] == ({} if way == "blocks" else {"MatMul": 1})
    close(model, after, ROWS, 0.1)


@every_way
def test_custom_operators_are_refused_by_name(way: str, make: Make) -> None:
    model = make(
        [node("Fancy", ["x"], ["h"], domain="my.ops"), node("MatMul", ["h", "W"], ["y"])], {"W": weights(8, 8)}
    )
    with pytest.raises(StepError, match=r"the operator Fancy of domain 'my\.ops' is not one of ONNX Runtime's"):
        WAYS[way](model, ROWS)


@every_way
@pytest.mark.parametrize("kind", ["MatMul", "Gemm"])
def test_tied_weights_and_biases(way: str, kind: str, make: Make, close: Close) -> None:
    """The same matrix as it is and transposed, and one bias behind activations of very different size."""
    second = ["s", "W", "b"] if kind == "Gemm" else ["s", "W"]
    nodes = [
        node("Gemm", ["x", "W", "b"], ["h"], name="first", transB=1),
        node("Relu", ["h"], ["r"]),
        node("Mul", ["r", "hundred"], ["s"]),
        node(kind, second, ["y"], name="second"),
    ]
    model = make(nodes, {"W": weights(8, 8), "b": weights(8), "hundred": np.float32([100])})
    after = WAYS[way](model, ROWS)
    if not way.startswith("half"):
        assert after.notes["quantized_nodes_count"] == 2
    close(model, after, ROWS, 0.03)


@every_way
def test_factors_of_gemm(way: str, make: Make, close: Close) -> None:
    gemm = node("Gemm", ["x", "W", "b"], ["y"], name="gemm", alpha=0.25, beta=3.0)
    model = make([gemm], {"W": weights(8, 16), "b": weights(16)})
    close(model, WAYS[way](model, ROWS), ROWS, 0.03)


@every_way
def test_a_value_behind_relu_that_is_also_put_out(way: str, make: Make, close: Close) -> None:
    nodes = [
        node("MatMul", ["x", "W"], ["h"], name="first"),
        node("Relu", ["h"], ["z"]),
        node("MatMul", ["z", "V"], ["y"], name="second"),
    ]
    model = make(nodes, {"W": weights(8, 16), "V": weights(16, 4)}, outputs=("h", "y"))
    close(model, WAYS[way](model, ROWS), ROWS, 0.04)


@every_way
def test_a_value_behind_relu_that_is_also_read_elsewhere(way: str, make: Make, close: Close) -> None:
    nodes = [
        node("MatMul", ["x", "W"], ["h"], name="first"),
        node("Relu", ["h"], ["z"]),
        node("MatMul", ["h", "V"], ["y"], name="second"),
    ]
    model = make(nodes, {"W": weights(8, 16), "V": weights(16, 4)}, outputs=("y", "z"))
    close(model, WAYS[way](model, ROWS), ROWS, 0.04)


@every_way
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(way: str, value: float, make: Make) -> None:
    broken = weights(8, 8)
    broken[3, 4] = value
    model = make([node("MatMul", ["x", "broken"], ["y"], name="layer")], {"broken": broken})
    what = "NaN" if np.isnan(value) else "infinite values"
    with pytest.raises(StepError, match=f"the tensor 'broken' of node 'layer' holds {what}"):
        WAYS[way](model, ROWS)


@every_way
@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_weights_of_zeros(way: str, bias: float, make: Make, close: Close) -> None:
    nodes = [node("Gemm", ["x", "W", "b"], ["h"], name="zeros"), node("MatMul", ["h", "V"], ["y"], name="after")]
    tensors = {"W": np.zeros((8, 16), np.float32), "b": weights(16) * np.float32(bias), "V": weights(16, 8)}
    model = make(nodes, tensors)
    close(model, WAYS[way](model, ROWS), ROWS, 0.03)


@every_way
def test_an_empty_initialiser(way: str, make: Make, close: Close) -> None:
    nodes = [node("Concat", ["x", "none"], ["c"], axis=1), node("MatMul", ["c", "W"], ["y"])]
    model = make(nodes, {"none": np.zeros((1, 0), np.float32), "W": weights(8, 16)}, x=(1, 8))
    close(model, WAYS[way](model, ROWS), ROWS[:1], 0.03)


@pytest.mark.parametrize("way", ["qdq", "qoperator"])
@pytest.mark.parametrize("least", [-np.inf, np.finfo(np.float32).min])
def test_masks_without_bounds_stay_in_float(way: str, least: float, make: Make, close: Close) -> None:
    nodes = [
        node("MatMul", ["x", "W"], ["q"], name="query"),
        node("Transpose", ["q"], ["k"], perm=[1, 0]),
        node("MatMul", ["q", "k"], ["s"], name="scores"),
        node("Add", ["s", "mask"], ["m"], name="masked"),
        node("Softmax", ["m"], ["p"]),
        node("MatMul", ["p", "q"], ["y"], name="mixed"),
    ]
    mask = np.where(np.arange(40) < 30, 0, least).astype(np.float32)
    model = make(nodes, {"W": weights(8, 16), "mask": mask}, x=(40, 8))
    after = WAYS[way](model, ROWS)
    assert after.notes["unbounded_nodes_count"] >= 1
    close(model, after, ROWS, 0.1)


def test_transposed_convolution_and_nearest_resize_with_joined_channels(make: Make, close: Close) -> None:
    nodes = [
        node("ConvTranspose", ["x", "W"], ["up"], name="up", strides=[2, 2]),
        node("Conv", ["up", "V"], ["y"], name="conv"),
    ]
    model = make(nodes, {"W": weights(3, 8, 2, 2), "V": weights(4, 8, 3, 3)}, x=("n", 3, 8, 8))
    after = quantize_static(model, IMAGES)
    assert (after.notes["quantized"], after.notes["left"]) == ({"Conv": 1}, {"ConvTranspose": 1})
    close(model, after, IMAGES, 0.04)
    both = quantize_static(model, IMAGES, StaticSettings(operators=("Conv", "ConvTranspose")))
    assert both.notes["left"] == {}
    close(model, both, IMAGES, 0.05)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.up, self.last = nn.Conv2d(48, 16, 3, padding=1), nn.Conv2d(16, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shallow = self.down(x).relu()
        deep = self.deep(F.max_pool2d(shallow, 2)).relu()
        joined = torch.cat([F.interpolate(deep, scale_factor=2.0, mode="nearest"), shallow], dim=1)
        image: torch.Tensor = self.last(self.up(joined).relu())
        return image


def test_a_tiny_u_net_of_any_size(exact: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    model = export(UNet().eval(), IMAGES, ["torchscript"], 17, 0)
    after = quantize_static(model, IMAGES)
    assert (after.notes["quantized"], after.notes["left"]) == ({"Conv": 4}, {})
    assert after.size_bytes < 0.45 * model.size_bytes
    for rows in (IMAGES, IMAGES[:1]):
        assert 1 - r2(predict(session(model), rows), predict(exact(after), rows)) < 0.01


def test_old_opsets_and_initialisers_among_the_inputs(make: Make, close: Close) -> None:
    model = make([node("Gemm", ["x", "W", "b"], ["y"], name="gemm")], {"W": weights(8, 16), "b": weights(16)}, opset=11)
    proto = to_proto(model)
    proto.graph.input.append(onnx.helper.make_tensor_value_info("W", onnx.TensorProto.FLOAT, [8, 16]))
    old = Artifact("onnx", {MODEL: proto.SerializeToString()})
    for way in WAYS.values():
        close(model, way(old, ROWS), ROWS, 0.03)


def test_several_free_dimensions(make: Make, close: Close) -> None:
    model = make([node("MatMul", ["x", "W"], ["y"])], {"W": weights(8, 16)}, x=("n", "steps", 8))
    for way in WAYS.values():
        after = way(model, ROWS.reshape(10, 4, 8))
        close(model, after, ROWS.reshape(5, 8, 8), 0.03)


def test_unnamed_nodes_get_names(make: Make) -> None:
    nodes = [node("MatMul", ["x", "W"], ["h"]), node("MatMul", ["h", "W"], ["y"])]
    model = make(nodes, {"W": weights(8, 8)})
    first, second = (one.name for one in layers(model))
    assert first != second
    assert quantize_dynamic(model, DynamicSettings(exclude=(first,))).notes["left"] == {"MatMul": 1}


@every_way
def test_external_data_comes_in_one_file(way: str, make: Make, close: Close) -> None:
    model = make([node("MatMul", ["x", "W"], ["y"])], {"W": weights(8, 16)})
    proto = to_proto(model)
    onnx.external_data_helper.convert_model_to_external_data(proto, location="weights.bin", size_threshold=0)
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(proto, f"{folder}/{MODEL}")
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    assert set(files) == {MODEL, "weights.bin"}
    after = WAYS[way](Artifact("onnx", files), ROWS)
    assert set(after.files) == {MODEL}
    close(model, after, ROWS, 0.03)


@every_way
def test_a_model_beyond_two_gigabytes_says_so(way: str, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make([node("MatMul", ["x", "W"], ["y"])], {"W": weights(8, 16)})
    monkeypatch.setattr(onnx_layers, "LARGEST_BYTES", model.size_bytes)
    WAYS[way](model, ROWS)
    monkeypatch.setattr(onnx_layers, "LARGEST_BYTES", model.size_bytes - 1)
    with pytest.raises(StepError, match=r"the model is 0\.00 GB large; models of more than 0\.00 GB cannot be"):
        WAYS[way](model, ROWS)


@every_way
def test_the_same_model_gives_the_same_bytes(way: str, make: Make) -> None:
    nodes = [
        node("Gemm", ["x", "W", "b"], ["h"], name="first", transB=1),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "W", "b"], ["y"], name="second"),
    ]
    model = make(nodes, {"W": weights(8, 8), "b": weights(8)})
    assert WAYS[way](model, ROWS).sha256 == WAYS[way](model, ROWS).sha256
