"""`GPUOptimizer` on a CPU: its steps learn, its report is the step's, and benchmarking heeds determinism."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn

from rayopt.errors import InputError, StepError
from rayopt.gpu import GPUOptimizer
from rayopt.memory.allocator import peak_bytes
from rayopt.models.zoo import mlp

CPU = torch.device("cpu")


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(64, 6, generator=generator)
    return x, (x[:, 0] > 0.5).long() + (x[:, 1] > 0.5).long()


def test_steps_learn_and_the_report_is_the_last_steps(tmp_path: Path) -> None:
    torch.manual_seed(0)
    optimizer = GPUOptimizer(mlp(6, 3, 64), "cpu")
    adam = torch.optim.AdamW(optimizer.model.parameters(), 0.01)
    x, y = batch()
    losses = [optimizer.mixed_precision_step(x, y, adam) for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]
    report = optimizer.report()
    weights = sum(one.nbytes for one in optimizer.model.parameters())
    assert report.at_peak["weights"] == weights
    assert report.at_peak["optimizer"] == pytest.approx(2 * weights, rel=0.1)
    assert "weights" in report.table
    assert f"{report.peak_bytes:,}" in report.table
    report.write(tmp_path / "memory.html")
    page = (tmp_path / "memory.html").read_text()
    assert "Memory over a step" in page
    assert "Activations at the peak, by layer" in page


def test_the_reported_peak_is_the_allocators() -> None:
    x, y = batch()
    report = GPUOptimizer(mlp(6, 3, 64), "cpu")
    sgd = torch.optim.SGD(report.model.parameters(), 0.1, 0.9)
    predicted = report.report(x, y, sgd).peak_bytes

    def steps() -> None:
        own = GPUOptimizer(mlp(6, 3, 64), "cpu")
        other = torch.optim.SGD(own.model.parameters(), 0.1, 0.9)
        for _ in range(2):
            own.mixed_precision_step(x.clone(), y.clone(), other)

    assert predicted == pytest.approx(peak_bytes(steps, CPU), rel=0.03)  # making a model draws its weights


def test_a_batch_is_not_kept_after_its_step() -> None:
    optimizer = GPUOptimizer(mlp(6, 3), "cpu")
    x, y = batch()
    kept = weakref.ref(x)
    optimizer.mixed_precision_step(x, y, torch.optim.SGD(optimizer.model.parameters(), 0.1))
    del x
    gc.collect()
    assert kept() is None
    assert optimizer.report().peak_bytes > 0


def test_without_a_step_there_is_nothing_to_report() -> None:
    with pytest.raises(InputError, match="no step was taken yet"):
        GPUOptimizer(mlp(6, 3), "cpu").report()


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    optimizer = GPUOptimizer(nn.Linear(6, 3), "cpu")
    before = optimizer.model.weight.clone()
    x, y = batch()
    with pytest.raises(StepError, match="the loss became"):
        optimizer.mixed_precision_step(x * float("inf"), y, torch.optim.SGD(optimizer.model.parameters(), 0.1))
    assert torch.equal(optimizer.model.weight, before)


def test_a_batch_of_nans_leaves_the_statistics_as_they_were() -> None:
    optimizer = GPUOptimizer(nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)), "cpu")
    before = {name: one.clone() for name, one in optimizer.model.state_dict().items()}
    x, y = batch()
    with pytest.raises(StepError, match="the loss became"):
        optimizer.mixed_precision_step(x * float("nan"), y, torch.optim.SGD(optimizer.model.parameters(), 0.1))
    assert all(torch.equal(one, before[name]) for name, one in optimizer.model.state_dict().items())


def test_what_does_not_go_together_is_told() -> None:
    optimizer = GPUOptimizer(nn.Linear(6, 3), "cpu")
    update = torch.optim.SGD(optimizer.model.parameters(), 0.1)
    x, y = batch()
    for what, inputs, targets in (
        ("targets: the model gives", x, torch.zeros(len(x), 2)),
        ("targets: Target 9 is out of bounds", x, torch.full_like(y, 9)),
        ("inputs: is no tensor but a tuple", (x, x), y),
    ):
        with pytest.raises(InputError, match=what):
            optimizer.mixed_precision_step(inputs, targets, update)
    with pytest.raises(InputError, match="device: 'gpu'"):
        GPUOptimizer(nn.Linear(6, 3), "gpu")


def test_benchmarking_is_for_fixed_shapes_that_need_not_be_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    optimizer = GPUOptimizer(nn.Linear(6, 3), "cpu")
    assert optimizer.optimize_memory()["cudnn_benchmark"] is False
    assert optimizer.optimize_memory(fixed_shapes=True)["cudnn_benchmark"] is True
    assert optimizer.optimize_memory()["cudnn_benchmark"] is True  # it stays as it was
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    assert optimizer.optimize_memory(fixed_shapes=True)["cudnn_benchmark"] is False
