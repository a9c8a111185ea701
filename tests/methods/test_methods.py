"""What each method is for, seen in its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from rayopt.compress.prune import prune_channels
from rayopt.compress.quantize_dynamic import quantize_dynamic
from rayopt.data.dataset import build as build_data
from rayopt.data.settings import SplitSettings
from rayopt.errors import StepError
from rayopt.graph import child
from rayopt.graph.export import export
from rayopt.graph.optimize import optimize, run_tool
from rayopt.graph.verify import same_outputs
from rayopt.models.onnx_model import MODEL, from_proto, node_count, predict, session, to_proto
from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.models.torch_model import build as build_model
from rayopt.models.torch_model import to_artifact
from rayopt.models.zoo import mlp, resnet
from rayopt.records import Artifact, Step
from rayopt.spec import Document
from rayopt.tree import Chain, TreeReader
from rayopt.work import Bench, run_step

ROWS = np.random.default_rng(0).random((40, 1, 8, 8)).astype(np.float32)


def method_step(name: str, params: dict[str, Any]) -> Step:
    """A step as a job file's reader makes it."""
    return TreeReader(Document({}, "job", Path.cwd())).extend(Chain(), name, params, ()).steps[0]


def onnx_step(name: str, params: dict[str, Any], model: Artifact, rows: np.ndarray) -> Artifact:
    """One step on an ONNX model, as a job would run it on these rows."""
    step = TreeReader(Document({}, "job", Path.cwd())).extend(Chain(format="onnx"), name, params, ()).steps[0]
    data = build_data("rows", rows, np.arange(len(rows)) % 3, "classification", SplitSettings(), 0, "data")
    source = ModelSource(ModelSettings(factory="rayopt.models.zoo:resnet"), ".")
    return run_step(step, model, None, Bench(data, source, "accuracy", 0)).artifact


def exported(module: nn.Module, rows: np.ndarray = ROWS) -> Artifact:
    return export(module.eval(), rows, ["torchscript"], 17, 0)


def graph(nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray] | None = None) -> Artifact:
    """A model from `x` (n, 4) to `y` (n, 4)."""
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    initial = [onnx.numpy_helper.from_array(tensor, name) for name, tensor in (tensors or {}).items()]
    made = onnx.helper.make_graph(nodes, "g", values[:1], values[1:], initial)
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return from_proto(model)


def test_pruning_reaches_the_widths_that_were_asked_for() -> None:
    module = resnet(widths=(16, 24, 32))
    notes = prune_channels(module, torch.from_numpy(ROWS[:2]), 0.5, {}, 8)
    assert notes["widths"]["stem.0"] == [16, 8]
    assert notes["unpruned"] == ["head"]
    assert 0.2 < notes["macs_share"] < 0.4
    assert module(torch.from_numpy(ROWS)).shape == (40, 10)


def test_pruning_to_given_widths_leaves_the_other_layers() -> None:
    module = resnet(widths=(16, 16, 16))
    notes = prune_channels(module, torch.from_numpy(ROWS[:2]), 0.5, {"blocks.*.first.0": 8}, 4)
    assert {name for name, (_, width) in notes["widths"].items() if width == 8} == {
        f"blocks.{index}.first.0" for index in range(6)
    }
    assert "stem.0" in notes["unpruned"]


@pytest.mark.parametrize(
    ("keep", "widths", "says"),
    [
        (0.9, {}, "no layer was pruned: rounding to multiples of 16"),
        (0.5, {"nobody": 8}, "no layer is named 'nobody'"),
        (0.5, {"stem.0": 99}, "has 16 channels and cannot be pruned to 99"),
    ],
)
def test_pruning_that_cannot_be_says_why(keep: float, widths: dict[str, int], says: str) -> None:
    module = resnet(widths=(16, 16, 16))
    with pytest.raises(StepError, match=says):
        prune_channels(module, torch.from_numpy(ROWS[:2]), keep, widths, 16)


POOL = (nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Dense(nn.Module):
    """What later layers take is joined of what earlier ones gave."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.norm, self.head = nn.GroupNorm(4, 32), nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.first(x).relu()
        joined = self.norm(torch.cat([first, self.second(first)], dim=1))
        scores: torch.Tensor = self.head(joined.mean(dim=(2, 3)))
        return scores


@pytest.mark.parametrize(
    ("module", "widths"),
    [
        (nn.Sequential(nn.Conv2d(1, 16, 3), nn.GroupNorm(4, 16), *POOL, nn.Linear(16, 3)), {"0": [16, 8]}),
        (
            nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 32, 3, groups=4), *POOL, nn.Linear(32, 3)),
            {"0": [16, 8], "1": [32, 16]},
        ),
        (nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 16, 3, groups=16), *POOL), {}),
        (Dense(), {"first": [16, 8], "second": [16, 8]}),
        (
            nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1), *POOL),
            {"0": [16, 8], "1": [16, 8]},
        ),
    ],
)
def test_channels_leave_each_part_alike_and_outputs_stay(module: nn.Module, widths: dict[str, list[int]]) -> None:
    images = torch.from_numpy(ROWS[:2])
    before = module.eval()(images).shape
    if widths:
        assert prune_channels(module, images, 0.5, {}, 8)["widths"] == widths
    else:
        with pytest.raises(StepError, match="no layer was pruned"):
            prune_channels(module, images, 0.5, {}, 8)
    assert module(images).shape == before


@pytest.mark.parametrize("round_to", [1, 4, 8])
def test_a_given_width_is_reached_whatever_it_is_a_share_of(round_to: int) -> None:
    module = mlp(16, 3, hidden=48)
    assert prune_channels(module, torch.rand(2, 16), 0.5, {"0": 8}, round_to)["widths"] == {"0": [48, 8]}


def test_the_least_channels_leave() -> None:
    module = nn.Sequential(nn.Linear(4, 6), nn.GroupNorm(2, 6), nn.Linear(6, 3))
    strength = torch.tensor([3.0, 1, 2, 2, 3, 1])  # the parts (3, 1, 2) and (2, 3, 1): in mean the last is least
    with torch.no_grad():
        module[0].weight.copy_(strength[:, None].expand(6, 4))
        module[2].weight.copy_(torch.ones(3, 6))
        module[0].bias.zero_()
    prune_channels(module, torch.rand(2, 4), 0.7, {}, 1)
    assert module[0].weight[:, 0].tolist() == [3, 1, 2, 3]


def test_a_model_of_one_layer_says_that_there_is_nothing_to_prune() -> None:
    with pytest.raises(StepError, match="no convolution or linear layer besides the one that makes the outputs"):
        prune_channels(nn.Linear(4, 3), torch.rand(2, 4), 0.5, {}, 1)


MODELS = """
import torch
from torch import nn

class First(nn.Module):
    def __init__(self, width=8, kind=nn.LSTM):
        super().__init__()
        self.layer, self.head = kind(width, width, batch_first=True), nn.Linear(width, width)
    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])

class Rows(nn.Module):
    def forward(self, x):
        return x[:, None]

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(8, 8) for _ in range(3))
        self.second.weight = self.third.weight = self.first.weight
        self.head = nn.Linear(8, 3)
    def forward(self, x):
        return self.head(self.third(self.second(self.first(x).relu()).relu()).relu())

class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.lift, self.place = nn.Linear(8, 32), nn.Parameter(torch.rand(1, 6, 32))
        self.layer, self.head = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), nn.Linear(32, 3)
    def forward(self, x):
        return self.head(self.layer(self.lift(x) + self.place).mean(1))

def attention(): return Attention()

def conv1d(): return nn.Sequential(nn.Conv1d(4, 32, 3), nn.ReLU(), nn.Conv1d(32, 16, 3), nn.Flatten(), nn.Linear(64, 3))
def head_of_1x1(): return nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 3, 6), nn.Flatten())
def layer_norm(): return nn.Sequential(nn.Linear(8, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 3))
def prelu(): return nn.Sequential(nn.Linear(8, 32), nn.PReLU(32), nn.Linear(32, 3))
def lstm(): return nn.Sequential(nn.Linear(8, 16), nn.Unflatten(1, (2, 8)), First())
def lstm_between(): return nn.Sequential(nn.Linear(8, 24), nn.ReLU(), Rows(), First(24), nn.Linear(24, 3))
def gru(): return nn.Sequential(nn.Linear(8, 24), Rows(), First(24, nn.GRU), nn.Linear(24, 3))
def tied(): return Tied()
def fixed_view(): return nn.Sequential(nn.Linear(8, 18), nn.Unflatten(1, (3, 6)), nn.Flatten(), nn.Linear(18, 3))
"""


def prune_step(folder: Path, name: str, shape: tuple[int, ...]) -> Artifact:
    """One prune_channels step on a model of MODELS, as a job would run it."""
    (folder / "models_to_prune.py").write_text(MODELS)
    source = ModelSource(ModelSettings(factory=f"models_to_prune:{name}"), str(folder))
    x = np.random.default_rng(0).random((60, *shape)).astype(np.float32)
    data = build_data("rows", x, np.arange(60) % 3, "classification", SplitSettings(), 0, "data")
    model = to_artifact(build_model(source, 0))
    return run_step(
        method_step("prune_channels", {"round_to": 1}), model, model, Bench(data, source, "accuracy", 0)
    ).artifact


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv1d", (4, 8)), ("head_of_1x1", (1, 8, 8)), ("layer_norm", (8,)), ("prelu", (8,)), ("tied", (8,)),
        ("attention", (6, 8)), ("lstm_between", (8,)),
    ],
)  # fmt: skip
def test_pruned_layers_of_other_kinds_survive_being_saved(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    found = prune_step(tmp_path, name, shape)
    assert found.notes["parameters_after"] < 0.8 * found.notes["parameters_before"]


@pytest.mark.parametrize(
    ("name", "says"), [("lstm", "layers that resist: LSTM"), ("gru", "resist: GRU"), ("fixed_view", "cannot be pruned")]
)
def test_a_model_that_resists_pruning_says_so_in_that_step(name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(StepError, match=says):
        prune_step(tmp_path, name, (8,))


def test_an_export_takes_any_batch_size_and_is_equal() -> None:
    module = resnet(widths=(8, 8, 8)).eval()
    artifact = exported(module)
    with torch.no_grad():
        wanted = module(torch.from_numpy(ROWS)).numpy()
    for size in (1, 7, 40):
        np.testing.assert_allclose(predict(session(artifact), ROWS[:size]), wanted[:size], rtol=1e-3, atol=1e-5)
    assert artifact.notes["max_error"] < 1e-4


class BakedBatch(nn.Module):
    """A model whose trace holds the batch size that it was traced with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(len(x), 3)
        for row in range(len(x)):
            total[row] = x[row].sum()
        return total


def test_an_export_that_is_not_equal_is_no_export() -> None:
    with pytest.raises(StepError, match="the model cannot be exported: torchscript:"):
        export(BakedBatch().eval(), ROWS, ["torchscript"], 17, 0)


@pytest.mark.slow
def test_the_second_exporter_steps_in_where_the_first_is_wrong() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    module = nn.Sequential(layer, nn.Flatten(), nn.Linear(40, 2)).eval()
    rows = np.random.default_rng(1).random((20, 5, 8)).astype(np.float32)
    artifact = export(module, rows, ["torchscript", "dynamo"], 18, 0)
    with torch.no_grad():
        wanted = module(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(predict(session(artifact), rows), wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "params", "share"),
    [
        ("quantize_static", {}, 0.4),
        ("quantize_static", {"format": "qoperator", "calibration": "percentile"}, 0.4),
        ("convert_fp16", {}, 0.6),
        ("convert_fp16", {"weights_only": True}, 0.6),
    ],
)
def test_a_smaller_number_format_keeps_the_answers_of_a_cnn(name: str, params: dict[str, Any], share: float) -> None:
    before = exported(resnet(widths=(32, 32, 32)))
    after = onnx_step(name, params, before, ROWS)
    assert after.size_bytes < share * before.size_bytes
    wanted, got = (predict(session(one), ROWS) for one in (before, after))
    assert np.corrcoef(wanted.ravel(), got.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("name", "share", "correlation"), [("quantize_dynamic", 0.35, 0.99), ("quantize_blocks", 0.25, 0.95)]
)
def test_a_smaller_number_format_keeps_the_answers_of_a_perceptron(name: str, share: float, correlation: float) -> None:
    rows = np.random.default_rng(0).random((40, 64)).astype(np.float32)
    before = exported(mlp(64, 3, hidden=256), rows)
    after = onnx_step(name, {}, before, rows)
    assert after.size_bytes < share * before.size_bytes
    assert after.notes["quantized"] == {"Gemm": 3}
    wanted, got = (predict(session(one), rows) for one in (before, after))
    assert np.corrcoef(wanted.ravel(), got.ravel())[0, 1] > correlation


def test_quantising_nothing_is_a_failure_and_not_a_copy() -> None:
    model = graph([onnx.helper.make_node("Relu", ["x"], ["y"])])
    with pytest.raises(StepError, match=r"no node was quantised \(operators: Relu\)"):
        quantize_dynamic(model)


def test_the_graph_optimiser_removes_what_is_not_needed() -> None:
    two = np.full((1,), 2, np.float32)
    nodes = [
        onnx.helper.make_node("Identity", ["x"], ["a"]),
        onnx.helper.make_node("Transpose", ["a"], ["b"], perm=[1, 0]),
        onnx.helper.make_node("Transpose", ["b"], ["c"], perm=[1, 0]),
        onnx.helper.make_node("Add", ["two", "two"], ["four"]),
        onnx.helper.make_node("Mul", ["c", "four"], ["y"]),
    ]
    before = graph(nodes, {"two": two})
    rows = np.random.default_rng(0).random((20, 4)).astype(np.float32)
    after = optimize(before, ["onnxoptimizer", "ort_basic"], rows, 0)
    assert node_count(to_proto(after)) == 1
    assert same_outputs(before, after, [rows]) == 0
    assert [record["kept"] for record in after.notes["tools"]] == [True, True]


def test_a_graph_with_nothing_to_remove_stays_as_it_is() -> None:
    before = graph([onnx.helper.make_node("Relu", ["x"], ["y"])])
    after = optimize(before, ["onnxoptimizer"], np.ones((20, 4), np.float32), 0)
    assert after.files == before.files
    assert after.notes["unchanged"]


TOOLS = """
import os, signal, time

def segfault(before, after): os.kill(os.getpid(), signal.SIGSEGV)
def hang(before, after): time.sleep(60)
def eat(before, after): bytearray(3 << 30)
def refuse(before, after): raise ValueError("no idea")
def nothing(before, after): pass
"""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("segfault", "died by SIGSEGV"),
        ("hang", "did not end within 2 s"),
        ("eat", "failed: MemoryError"),
        ("refuse", "failed: ValueError: no idea"),
        ("nothing", "failed: it wrote no model"),
    ],
)
def test_a_tool_that_misbehaves_costs_only_its_own_step(
    name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad_tools.py").write_text(TOOLS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child.close()  # the process that forks the tools knows the path of its start alone
    with pytest.raises(StepError, match=f"bad_tools:{name} {says}"):
        run_tool(f"bad_tools:{name}", b"", memory_bytes=2 << 30, seconds=2 if name == "hang" else 60)
    child.close()


def test_a_tool_that_changes_the_outputs_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    before = graph(
        [onnx.helper.make_node("Relu", ["x"], ["a"]), onnx.helper.make_node("Neg", ["a"], ["y"])],
    )

    def lie(tool: str, content: bytes) -> bytes:
        model = onnx.load_from_string(content)
        del model.graph.node[:]
        model.graph.node.append(onnx.helper.make_node("Relu", ["x"], ["y"]))
        return bytes(model.SerializeToString())

    monkeypatch.setattr("rayopt.graph.optimize.run_tool", lie)
    after = optimize(before, ["onnxoptimizer"], np.ones((20, 4), np.float32), 0)
    assert after.files[MODEL] == before.files[MODEL]
    assert "outputs differ" in after.notes["tools"][0]["reason"]
