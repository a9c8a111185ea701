"""The compressor from Python: in place, saved small, and the whole way from rows to a file."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import rayopt
from rayopt.compressor import ModelCompressor, Search
from rayopt.errors import InputError, StepError, WorkError
from rayopt.models.zoo import mlp, resnet
from rayopt.training.fit import fit
from rayopt.training.losses import task_loss
from rayopt.training.settings import FitSettings, RecoverySettings


def trained(x: np.ndarray, y: np.ndarray) -> nn.Module:
    module = mlp(4, 2, hidden=64)
    rows, targets = torch.tensor(x), torch.tensor(y)
    fit(module, rows, targets, lambda out, to, _: task_loss(out, to), FitSettings(epochs=5, batch_size=16), 0)
    return module


def test_it_has_a_public_name() -> None:
    assert rayopt.ModelCompressor is ModelCompressor


def test_quantising_and_pruning_change_the_model_itself(tmp_path: Path) -> None:
    module = resnet(widths=(8, 8, 16))
    compressor = ModelCompressor(module)
    before = compressor.size_bytes
    assert compressor.prune_weights(threshold=0.05) is module
    zero = {name: tensor == 0 for name, tensor in module.named_parameters()}
    assert 0.1 < compressor.report["pruning"]["sparsity"] < 0.9
    assert compressor.quantize_weights(bits=4) is module
    assert all(not tensor[zero[name]].any() for name, tensor in module.named_parameters())
    compressor.save(tmp_path / "small.safetensors")
    assert (tmp_path / "small.safetensors").stat().st_size == compressor.size_bytes < 0.6 * before
    fresh = resnet(widths=(8, 8, 16))
    fresh.load_state_dict(ModelCompressor.load_state(tmp_path / "small.safetensors"))
    images = torch.rand(3, 1, 8, 8)
    assert torch.equal(fresh.eval()(images), module.eval()(images))


def test_what_is_changed_after_quantising_is_not_saved_as_quantised() -> None:
    compressor = ModelCompressor(nn.Linear(16, 16))
    compressor.quantize_weights(bits=4)
    nn.init.ones_(compressor.model.weight)  # type: ignore[arg-type]
    with pytest.raises(StepError, match="weight has changed since it was quantised"):
        _ = compressor.size_bytes


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing of that kind")
    with pytest.raises(InputError, match=r"x\.safetensors: is no whole file of packed weights"):
        ModelCompressor.load_state(tmp_path / "x.safetensors")


def test_the_smallest_file_within_the_budget_is_chosen(points: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    module = trained(*points)
    module.train()
    before = copy.deepcopy(module.state_dict())
    search = Search(max_accuracy_drop=0.2, bits=(8, 4), recovery=RecoverySettings(epochs=2, batch_size=16, lr=0.02))
    found = ModelCompressor(module).compress(*points, search)
    assert module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    report = found.report
    assert [(row["keep"], row["bits"]) for row in report["tried"]] == [
        (1.0, 8), (1.0, 4), (0.5, 32), (0.5, 8), (0.5, 4),
    ]  # fmt: skip
    fitting = [row["size_bytes"] for row in report["tried"] if row.get("within_budget")]
    assert found.size_bytes == report["chosen"]["size_bytes"] == min(fitting) < report["baseline"]["size_bytes"]
    assert report["test_n"] == 24
    found.save(tmp_path / "small.onnx")
    running = onnxruntime.InferenceSession(str(tmp_path / "small.onnx"), providers=["CPUExecutionProvider"])
    assert running.run(None, {"input": points[0]})[0].shape == (120, 2)


def test_where_nothing_is_within_the_budget_the_original_is_given(points: tuple[np.ndarray, np.ndarray]) -> None:
    found = ModelCompressor(trained(*points)).compress(*points, Search(max_accuracy_drop=-1.0, keep=(1.0,), bits=(8,)))
    assert found.report["chosen"] is None
    assert found.size_bytes == found.report["baseline"]["size_bytes"]


def test_a_model_that_does_not_take_the_rows_is_an_error(points: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(WorkError, match="the model cannot be exported and run"):
        ModelCompressor(nn.Linear(7, 2)).compress(*points, Search(keep=(1.0,)))
