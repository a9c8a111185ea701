"""Predicted peaks against the allocator's own account."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from rayopt.errors import InputError
from rayopt.memory.predict import Predictor
from rayopt.memory.rehearsal import Variant, measured_bytes
from rayopt.memory.snapshot import KINDS, snapshot
from rayopt.memory.steps import MODEL
from rayopt.training.settings import TrainSettings
from tests.memory.networks import CPU, steps

CASES = [
    ("mlp", 30, Variant()),
    ("mlp", 12, Variant(foreach=True)),
    ("mlp", 100, Variant(3, True, "bf16", False)),
    ("resnet", 24, Variant(2)),
    ("resnet", 40, Variant(1, True, "bf16", True, "channels_last")),
    ("attention", 20, Variant(1, True)),
    ("attention", 33, Variant(2, False, "bf16")),
]


@pytest.fixture(autouse=True)
def _one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("name", "rows", "variant"), CASES)
def test_a_peak_is_the_allocators(name: str, rows: int, variant: Variant) -> None:
    training = steps(name)
    predictor = Predictor(training, CPU)
    truth = measured_bytes(training, rows, variant, CPU)
    assert predictor.known(variant).untraceable == ""
    packing = (
        0.01 if variant.precision == "fp32" else 0.15
    )  # of bf16 it goes by how the rows divide, of small models most
    assert predictor.peak_bytes(rows, variant) == pytest.approx(truth, rel=packing)
    assert predictor.confirmed_bytes(rows, variant) == pytest.approx(truth, rel=0.001)


def test_all_that_a_step_may_do_is_in_it() -> None:
    plain = steps("mlp")
    rich = steps("mlp", TrainSettings(optimizer={"use": "adamw"}, ema=0.9, clip_norm=1.0, label_smoothing=0.1))
    peaks = [Predictor(one, CPU).confirmed_bytes(16, Variant()) for one in (plain, rich)]
    truths = [measured_bytes(one, 16, Variant(), CPU) for one in (plain, rich)]
    assert peaks == pytest.approx(truths, rel=0.001)
    weights = sum(one.nbytes for one in plain.module.parameters())
    assert truths[1] - truths[0] >= weights  # the average


def test_a_recurrent_layers_workspace_is_not_forgotten() -> None:
    training = steps("recurrent")
    predictor = Predictor(training, CPU)
    assert predictor.confirmed_bytes(24, Variant()) == pytest.approx(
        measured_bytes(training, 24, Variant(), CPU), rel=0.01
    )


def test_the_model_that_is_predicted_stays_as_it_was() -> None:
    training = steps("resnet")
    before = {name: one.clone() for name, one in training.module.state_dict().items()}
    Predictor(training, CPU).peak_bytes(20, Variant())
    assert all(torch.equal(one, before[name]) for name, one in training.module.state_dict().items())


def test_a_step_that_depends_on_its_data_is_taken_and_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    training = steps("picky")
    predictor = Predictor(training, CPU)
    with caplog.at_level(logging.WARNING, "rayopt"):
        predicted = predictor.peak_bytes(60, Variant())
    assert "depends on the data" in predictor.known(Variant()).untraceable
    assert "cannot be traced" in caplog.text
    truth = measured_bytes(training, 60, Variant(), CPU)
    assert truth <= predicted <= 1.2 * truth


def test_a_step_that_fails_is_told_with_a_remedy() -> None:
    training = steps("mlp")
    training.module[MODEL] = nn.Linear(5, 3)
    with pytest.raises(InputError) as caught:
        Predictor(training, CPU, "job.yaml:3: model").peak_bytes(10, Variant())
    (fault,) = caught.value.faults
    assert fault.place == "job.yaml:3: model"
    assert "a step of the training fails: RuntimeError" in fault.problem
    assert fault.remedy


def test_a_snapshot_knows_the_weights_the_optimizer_and_the_layers() -> None:
    training = steps("resnet")
    found = snapshot(Predictor(training, CPU).trace(32, Variant()))
    weights = sum(one.nbytes for one in training.module.parameters())
    assert found.at_peak["weights"] == weights
    assert 2 * weights <= found.at_peak["optimizer"] < 2.1 * weights
    assert sum(found.at_peak.values()) == pytest.approx(found.peak_bytes, rel=0.001)
    assert sum(found.layers.values()) == found.at_peak["activations"] > 0
    assert any("blocks" in name for name in found.layers)
    assert set(found.curve) == set(KINDS)
    assert max(map(sum, zip(*found.curve.values(), strict=True))) <= found.peak_bytes
