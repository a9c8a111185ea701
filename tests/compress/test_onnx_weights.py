"""Packed ONNX weights: decoded exactly, folded when the model is loaded, as small as their bits say."""

from __future__ import annotations

import collections
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from rayopt.compress.onnx_weights import find_weights, optimized, quantize_weights, raised, simulate, weight_layers
from rayopt.compress.quantize_static import quantize_static
from rayopt.compress.weights import Plan
from rayopt.errors import StepError
from rayopt.graph.export import export
from rayopt.models.onnx_model import MODEL, from_proto, predict, session, to_proto
from rayopt.models.zoo import mlp, resnet
from rayopt.records import Artifact

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.random((20, 1, 8, 8)).astype(np.float32)
DECODES = {"BitShift", "Mod", "Split", "Sub", "Round"}


def random(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return GENERATOR.normal(size=shape).astype(dtype)


def model(
    nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], shape: tuple[int, ...], opset: int = 17, ir: int = 8,
    kind: int = TensorProto.FLOAT,
) -> Artifact:  # fmt: skip
    """A graph from `x` (n, *shape) to `y`."""
    initial = [numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()]
    takes = [helper.make_tensor_value_info("x", kind, ["n", *shape])]
    if ir < 4:
        takes += [helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in initial]
    gives = [helper.make_tensor_value_info("y", TensorProto.FLOAT if kind == TensorProto.INT64 else kind, None)]
    made = helper.make_graph(nodes, "g", takes, gives, initial)
    return from_proto(helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir))


def node(kind: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


@pytest.fixture(scope="module")
def cnn() -> Artifact:
    torch.manual_seed(0)
    return export(resnet(widths=(16, 16, 32)).eval(), IMAGES, ["torchscript"], 17, 0)


@pytest.mark.parametrize("bits", range(2, 17))
def test_every_width_decodes_exactly_and_is_folded(cnn: Artifact, bits: int) -> None:
    for per_channel in (True, False):
        for symmetric in (True, False):
            plan = Plan(bits, per_channel, symmetric)
            packed = quantize_weights(cnn, plan)
            onnx.checker.check_model(to_proto(packed), full_check=True)
            np.testing.assert_array_equal(
                predict(session(packed), IMAGES), predict(session(simulate(cnn, plan)), IMAGES)
            )
            assert packed.notes["folded"]
            assert not DECODES & {one.op_type for one in optimized(packed).graph.node}
            count = packed.notes["packed_weights_count"]
            assert count * bits / 8 < packed.size_bytes < count * bits / 8 + 22_000


def test_bytes_fall_with_the_bits(cnn: Artifact) -> None:
    sizes = [quantize_weights(cnn, Plan(bits)).size_bytes for bits in range(2, 17)]
    assert sizes == sorted(sizes)
    assert sizes[-1] < 0.6 * cnn.size_bytes


WORDS = np.arange(24, dtype=np.int64).reshape(4, 6) % 20
LAYERS = {
    "Conv": ([node("Conv", "x w")], {"w": random(8, 4, 3, 3)}, random(3, 4, 6, 6), {(8, 1, 1, 1)}),
    "ConvTranspose": ([node("ConvTranspose", "x w")], {"w": random(4, 8, 3, 3)}, random(3, 4, 6, 6), {(1, 8, 1, 1)}),
    "MatMul": ([node("MatMul", "x w")], {"w": random(16, 24)}, random(3, 16), {(1, 24)}),
    "MatMul of a stack": ([node("MatMul", "x w")], {"w": random(2, 16, 24)}, random(3, 2, 5, 16), {(2, 1, 24)}),
    "MatMul transposed": (
        [node("Transpose", "w", "t", perm=[1, 0]), node("MatMul", "x t")],
        {"w": random(24, 16)},
        random(3, 16),
        {(24, 1)},
    ),
    "Gemm": ([node("Gemm", "x w")], {"w": random(16, 24)}, random(3, 16), {(1, 24)}),
    "Gemm transB": ([node("Gemm", "x w", transB=1)], {"w": random(24, 16)}, random(3, 16), {(24, 1)}),
    "LSTM": (
        [node("LSTM", "x w r", hidden_size=12)],
        {"w": 0.3 * random(1, 48, 10), "r": 0.3 * random(1, 48, 12)},
        random(3, 5, 10),
        {(1, 48, 1)},
    ),
    "GRU": (
        [node("GRU", "x w r", hidden_size=12)],
        {"w": 0.3 * random(1, 36, 10), "r": 0.3 * random(1, 36, 12)},
        random(3, 5, 10),
        {(1, 36, 1)},
    ),
    "RNN": (
        [node("RNN", "x w r", hidden_size=24)],
        {"w": 0.3 * random(1, 24, 10), "r": 0.3 * random(1, 24, 24)},
        random(3, 5, 10),
        {(1, 24, 1)},
    ),
    "tied embedding": (
        [node("Gather", "w x", "e"), node("Transpose", "w", "t", perm=[1, 0]), node("MatMul", "e t")],
        {"w": random(20, 16)},
        WORDS,
        {(20, 1)},
    ),
    "a Constant node": (
        [node("Constant", "", "w", value=numpy_helper.from_array(random(16, 24), "v")), node("MatMul", "x w")],
        {},
        random(3, 16),
        {(1, 24)},
    ),
    "half precision": (
        [node("MatMul", "x w")],
        {"w": random(16, 24, dtype=np.float16)},
        random(3, 16, dtype=np.float16),
        {(1, 24)},
    ),
    "double precision": (
        [node("MatMul", "x w")],
        {"w": random(16, 24, dtype=np.float64)},
        random(3, 16, dtype=np.float64),
        {(1, 24)},
    ),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("bits", [3, 8, 11])
def test_weights_of_every_layer_are_packed_with_a_scale_for_each_output(name: str, bits: int) -> None:
    nodes, tensors, rows, scales = LAYERS[name]
    if nodes[0].op_type == "Constant":
        nodes[0].ClearField("input")
    before = model(nodes, tensors, rows.shape[1:], kind=helper.np_dtype_to_tensor_dtype(rows.dtype))
    plan = Plan(bits, min_size=1)
    if bits == 11 and name == "half precision":
        with pytest.raises(StepError, match="or 11 bits would not be smaller"):
            quantize_weights(before, plan)
        return
    packed = quantize_weights(before, plan)
    for optimize in (True, False):
        got, wanted = (
            session(one, optimize=optimize).run(None, {"x": rows})[0] for one in (packed, simulate(before, plan))
        )
        if name == "half precision":  # the runtime computes in float32 and leaves the rounding out
            np.testing.assert_allclose(got, wanted, rtol=0.01, atol=0.01)
        else:
            np.testing.assert_array_equal(got, wanted)
    exact = session(before).run(None, {"x": rows})[0]
    assert np.abs(got - exact).max() < (0.7 if bits == 3 else 0.02) * np.abs(exact).max()
    assert packed.notes["folded"]
    shapes = {tuple(one.dims) for one in to_proto(packed).graph.initializer if one.data_type == TensorProto.FLOAT}
    assert scales <= shapes
    assert len(packed.notes["bits"]) == max(1, len(tensors))
    assert packed.size_bytes < before.size_bytes + 400


def test_weights_that_two_layers_share_are_packed_once() -> None:
    nodes = [node("MatMul", "x w", "a"), node("Relu", "a", "b"), node("MatMul", "b w")]
    packed = quantize_weights(model(nodes, {"w": random(64, 64)}, (64,)), Plan(4))
    assert packed.notes["packed_weights_count"] == 64 * 64
    assert (
        sum(len(one.raw_data) for one in to_proto(packed).graph.initializer if one.data_type == TensorProto.UINT8)
        < 2100
    )


def test_what_a_nested_graph_takes_from_outside_is_decoded_for_it() -> None:
    inner = [
        helper.make_graph(
            [node(kind, "x w", "z")], "g", [], [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)]
        )
        for kind in ("MatMul", "Add")
    ]
    nodes = [
        node("MatMul", "x w", "a"), node("ReduceSum", "a", "s", keepdims=0), node("Greater", "s zero", "c"),
        helper.make_node("If", ["c"], ["y"], then_branch=inner[0], else_branch=inner[1]),
    ]  # fmt: skip
    before = model(nodes, {"w": random(32, 32), "zero": np.array(0, np.float32)}, (32,))
    packed = quantize_weights(before, Plan(4))
    rows = random(32, 32)
    np.testing.assert_array_equal(predict(session(packed), rows), predict(session(simulate(before, Plan(4))), rows))


def test_an_old_file_whose_weights_are_inputs_is_packed() -> None:
    before = model([node("MatMul", "x w")], {"w": random(32, 32)}, (32,), opset=13, ir=3)
    packed = quantize_weights(before, Plan(4))
    assert [one.name for one in to_proto(packed).graph.input] == ["x"]
    rows = random(5, 32)
    np.testing.assert_array_equal(predict(session(packed), rows), predict(session(simulate(before, Plan(4))), rows))


def test_an_old_opset_is_raised_and_a_new_one_left() -> None:
    old = model([node("MatMul", "x w", "a"), node("Softmax", "a", axis=1)], {"w": random(32, 32)}, (32,), opset=9, ir=8)
    new = raised(old)
    assert to_proto(new).opset_import[0].version == 13
    assert raised(new) is new
    rows = random(5, 32)
    np.testing.assert_allclose(predict(session(new), rows), predict(session(old), rows), rtol=1e-6)
    assert quantize_weights(new, Plan(4)).notes["folded"]


def test_layers_have_bits_of_their_own(cnn: Artifact) -> None:
    names = [name for name, _ in weight_layers(cnn)]
    packed = quantize_weights(cnn, Plan(3, layers={"*/blocks.5/*": 6, "head.weight": 0, names[1]: 32}))
    bits = packed.notes["bits"]
    assert {bits[name] for name in names if "blocks.5" in name} == {6}
    assert not {names[1], "head.weight"} & set(bits)
    assert bits[names[2]] == 3
    assert 3 < packed.notes["average_bits"] < 6
    with pytest.raises(StepError, match="no weights are named 'nobody'"):
        quantize_weights(cnn, Plan(3, layers={"nobody": 6}))


def test_small_tensors_stay_in_float(cnn: Artifact) -> None:
    small = {name for name, count in weight_layers(cnn) if count < 300}
    assert small
    assert not small & set(quantize_weights(cnn, Plan(3, min_size=300)).notes["bits"])


def final(artifact: Artifact) -> collections.Counter[str]:
    """The nodes that ONNX Runtime runs."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / MODEL)
        options.log_severity_level = 4
        onnxruntime.InferenceSession(artifact.files[MODEL], options, providers=["CPUExecutionProvider"])
        return collections.Counter(one.op_type for one in onnx.load(Path(folder) / MODEL).graph.node)


@pytest.mark.parametrize("bits", [3, 5, 6])
def test_int8_weights_in_fewer_bits_still_run_in_int8_kernels(cnn: Artifact, bits: int) -> None:
    static = quantize_static(cnn, IMAGES)
    packed = quantize_weights(static, Plan(bits))
    assert final(packed) == final(static)
    assert final(packed)["QLinearConv"] >= 12
    assert packed.size_bytes < static.size_bytes - 50_000 * (8 - bits) / 8 + 4000
    np.testing.assert_array_equal(
        predict(session(packed), IMAGES), predict(session(simulate(static, Plan(bits))), IMAGES)
    )
    with pytest.raises(StepError, match="8 bits would not be smaller"):
        quantize_weights(static, Plan(8))


@pytest.mark.parametrize(
    ("nodes", "tensors", "says"),
    [
        ([node("Relu", "x")], {}, r"no layer has constant weights \(operators: Relu\)"),
        ([node("MatMul", "x w")], {"w": random(4, 4)}, "the largest of 1 has 16 elements"),
        ([node("MatMul", "x w")], {"w": np.full((32, 32), np.nan, np.float32)}, "w has 1024 NaN or infinite weights"),
    ],
)
def test_a_model_that_cannot_be_packed_says_why(
    nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], says: str
) -> None:
    with pytest.raises(StepError, match=says):
        quantize_weights(model(nodes, tensors, (4,)), Plan(8))


def test_names_of_the_model_do_not_clash_with_those_of_the_decoder() -> None:
    tensors = {"w.0": random(32, 32), "w.c0": random(32, 32)}
    before = model([node("MatMul", "x w.0", "w.1"), node("MatMul", "w.1 w.c0")], tensors, (32,))
    packed = quantize_weights(before, Plan(5))
    rows = random(5, 32)
    np.testing.assert_array_equal(predict(session(packed), rows), predict(session(simulate(before, Plan(5))), rows))


def test_tensors_of_other_types_and_one_dimension_are_no_weights() -> None:
    nodes = [node("Gather", "table x", "a"), node("Cast", "a", "b", to=1), node("Add", "b bias")]
    tensors = {"table": np.arange(400).reshape(40, 10), "bias": random(10)}
    assert find_weights(to_proto(model(nodes, tensors, (), kind=TensorProto.INT64))) == []


def test_a_perceptron_of_zeros_stays_one() -> None:
    module = mlp(16, 3, hidden=32)
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    rows = random(6, 16)
    before = export(module.eval(), rows, ["torchscript"], 17, 0)
    assert not predict(session(quantize_weights(before, Plan(2, symmetric=False))), rows).any()
