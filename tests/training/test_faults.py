"""Trainings that fail say where, and what there is to go on from; steps of several parts are those of one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayopt.errors import StepError
from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.models.torch_model import build, from_artifact, to_artifact
from rayopt.training import checkpoint
from rayopt.training.learner import TaskObjective
from rayopt.training.loop import Trained, Work
from rayopt.training.losses import NO_CLASS
from rayopt.training.precision import PLAIN, Numerics, probe
from rayopt.training.seat import OneSeat
from rayopt.training.settings import TrainSettings
from rayopt.training.source import Arrays


class Sum(nn.Module):
    reduction = "sum"

    def forward(self, outputs: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="sum")


class Faulty(Arrays):
    """Raises where row 7 is asked for in the second epoch."""

    def batch(self, epoch: int, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if epoch == 1 and 7 in rows:
            raise OSError("the disk is gone")
        return super().batch(epoch, rows)


def rows(kind: type[Arrays] = Arrays, classes: int = 2) -> Arrays:
    generator = np.random.default_rng(0)
    return kind(generator.normal(size=(50, 4)).astype(np.float32), generator.integers(0, classes, 50))


def work(data: Arrays, objective: nn.Module | None = None, **settings: object) -> Work:
    model = {"factory": "rayopt.models.zoo:mlp", "args": {"features": 4, "outputs": 2, "hidden": 8}}
    source = ModelSource(ModelSettings.model_validate(model), "")
    asked = TrainSettings.model_validate({"epochs": 3, "batch_size": 16, "precision": "fp32", **settings})
    return Work(to_artifact(build(source, 0)), source, data, objective or TaskObjective(), asked, 0)


def weights(trained: Trained, done: Work) -> list[Tensor]:
    return list(from_artifact(trained.artifact, done.source, 0).state_dict().values())


def test_a_source_that_raises_is_a_failure_with_its_step_and_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"step [5-8] of 12: OSError: the disk is gone; .* checkpoint is of step \d"):
        work(rows(Faulty), checkpoint={"every_steps": 1}).run(OneSeat(tmp_path))


def test_classes_that_the_model_lacks_are_a_failure_of_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"step 1 of 12: IndexError: Target \d is out of bounds.*; there is no"):
        work(rows(classes=5)).run(OneSeat(tmp_path))


def test_a_loss_that_explodes_ends_the_training(tmp_path: Path) -> None:
    data = Arrays(rows().x, rows().x.astype(np.float32)[:, :2])
    with pytest.raises(
        StepError, match=r"step \d+ of 300: the loss became (nan|inf); a lower learning rate than 1e\+06"
    ):
        work(data, epochs=75, optimizer={"lr": 1e6}).run(OneSeat(tmp_path))


def test_a_checkpoint_never_holds_weights_that_are_not_finite(tmp_path: Path) -> None:
    class Bad(nn.Module):
        def forward(self, outputs: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
            return (outputs * 0).abs().sqrt().sum()  # its value is 0, its slope is not a number

    with pytest.raises(StepError, match="weights are not finite after step 1; there is no checkpoint"):
        work(rows(), Bad(), checkpoint={"every_steps": 1}).run(OneSeat(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("objective", [TaskObjective(), Sum()])
def test_parts_make_up_the_whole_batch_also_where_they_are_unequal(objective: nn.Module, tmp_path: Path) -> None:
    kept = {"keep": "last", "optimizer": {"lr": 0.01}}
    whole, parts = work(rows(), objective, **kept), work(rows(), objective, micro_batch=5, **kept)
    one, other = whole.run(OneSeat(tmp_path / "whole")), parts.run(OneSeat(tmp_path / "parts"))
    for a, b in zip(weights(one, whole), weights(other, parts), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6)
    assert [entry["loss"] for entry in one.curve] == pytest.approx([entry["loss"] for entry in other.curve], abs=1e-6)


@pytest.mark.parametrize("labeled", [slice(0, 50, 3), slice(40, 50)])  # of the latter whole parts have none
def test_parts_make_up_the_whole_batch_also_where_rows_have_no_class(labeled: slice, tmp_path: Path) -> None:
    data = rows()
    classes = np.full(50, NO_CLASS)
    classes[labeled] = data.y[labeled]
    kept = {"keep": "last", "optimizer": {"lr": 0.01}, "batch_size": 25}
    whole = work(Arrays(data.x, classes), **kept)
    parts = work(Arrays(data.x, classes), micro_batch=5, **kept)
    one, other = whole.run(OneSeat(tmp_path / "whole")), parts.run(OneSeat(tmp_path / "parts"))
    for a, b in zip(weights(one, whole), weights(other, parts), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6)
    assert [entry["loss"] for entry in one.curve] == pytest.approx([entry["loss"] for entry in other.curve], abs=1e-6)


def test_batches_of_one_row_are_trained_on(tmp_path: Path) -> None:
    trained = work(rows(), batch_size=1, epochs=2).run(OneSeat(tmp_path))
    assert (trained.steps, len(trained.curve)) == (100, 2)


def test_a_summed_loss_is_told_by_the_row(tmp_path: Path) -> None:
    mean = work(rows(), optimizer={"lr": 1e-9}).run(OneSeat(tmp_path / "mean"))
    summed = work(rows(), Sum(), optimizer={"lr": 1e-9}).run(OneSeat(tmp_path / "sum"))
    assert summed.curve[0]["loss"] == pytest.approx(mean.curve[0]["loss"], rel=1e-5)


def test_progress_tells_a_rate_and_the_time_left_within_the_first_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rayopt.training.loop.REPORT_S", 0.0)
    told: list[Mapping[str, float]] = []
    work(rows()).run(OneSeat(tmp_path, told.append))
    assert [one["step"] for one in told] == list(range(1, 13))
    assert told[0]["samples_per_s"] > 0
    assert 0 < told[0]["left_s"] < math.inf


def test_short_epochs_write_a_checkpoint_at_the_end_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    write = checkpoint.write
    monkeypatch.setattr(checkpoint, "write", lambda *args: (written.append(args[1]), write(*args))[1])
    monkeypatch.setattr("rayopt.training.saving.SAVE_S", math.inf)
    work(rows()).run(OneSeat(tmp_path))
    assert written == [12]


def test_a_damaged_later_checkpoint_does_not_stand_in_the_place_of_a_good_one(tmp_path: Path) -> None:
    for step in (1, 2, 9):
        checkpoint.write(tmp_path, step, {"a": torch.ones(1)}, {})
    (tmp_path / "step-000000009" / "state.json").write_text("{")
    said: list[str] = []
    found = checkpoint.latest(tmp_path, {}, said.append)
    assert found is not None
    assert found.step == 2
    assert len(said) == 1
    checkpoint.write(tmp_path, 3, {"a": torch.ones(1)}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000002", "step-000000003"]


def test_names_with_dots_are_not_taken_for_nested_ones(tmp_path: Path) -> None:
    state = {"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}}
    checkpoint.write(tmp_path, 1, state, {})
    found = checkpoint.latest(tmp_path, {}, print)
    assert found is not None
    assert float(found.state["a.b"]) == 0
    assert float(found.state["a"]["b"]) == 1


def test_numerics_that_the_model_cannot_compute_in_are_not_chosen() -> None:
    bf16 = Numerics("bf16", "contiguous")

    def steps(module: nn.Module, numerics: Numerics):  # type: ignore[no-untyped-def]
        def step() -> float:
            if numerics == bf16:
                raise RuntimeError("not implemented for 'BFloat16'")
            return 1.0

        return step

    best, measured = probe(nn.Linear(1, 1), [PLAIN, bf16], steps)
    assert best == PLAIN
    assert measured[1].off == math.inf
