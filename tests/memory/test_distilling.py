"""The steps of a distillation are traced, whatever loss follows the teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rayopt.memory.predict import Predictor
from rayopt.memory.rehearsal import Variant, measured_bytes
from rayopt.memory.steps import TrainingSteps, steps_of
from rayopt.models import zoo
from rayopt.training.distill_losses import LOSSES, MISSING
from rayopt.training.distill_settings import FeatureSettings, LossSettings
from rayopt.training.distillation import DistillationObjective, Pair
from rayopt.training.settings import TrainSettings
from rayopt.training.source import Arrays
from rayopt.training.teacher import OUTPUTS, Answers, Stored
from tests.memory.networks import CPU

ROWS = 64


def distillation(folder: Path, loss: LossSettings, alpha: float = 0.0) -> TrainingSteps:
    """Of a perceptron by stored answers, to rows of which half have a label."""
    generator = np.random.default_rng(0)
    for name, width in ((OUTPUTS, 3), ("hidden", 7)):
        np.save(folder / f"{name}.npy", generator.normal(size=(ROWS, width)).astype(np.float32))
    answers = Answers({name: Stored(folder / f"{name}.npy") for name in (OUTPUTS, "hidden")})
    pairs = [Pair(one, (32,), (7,)) for one in loss.features]
    objective = DistillationObjective([answers], loss, alpha, 0.5, pairs)
    y = np.where(np.arange(ROWS) % 2, np.arange(ROWS) % 3, MISSING)
    rows = Arrays(generator.random((ROWS, 6), dtype=np.float32), y)
    torch.manual_seed(0)
    return steps_of(zoo.mlp(6, 3, 32), objective, rows, TrainSettings(), CPU)


def check(steps: TrainingSteps) -> None:
    predictor = Predictor(steps, CPU)
    assert predictor.known(Variant()).untraceable == ""
    truth = measured_bytes(steps, 40, Variant(), CPU)
    assert predictor.confirmed_bytes(40, Variant()) == pytest.approx(truth, rel=0.01)


@pytest.mark.parametrize("use", sorted(LOSSES))
def test_every_loss_is_traced(use: str, tmp_path: Path) -> None:
    check(distillation(tmp_path, LossSettings(use=use)))


def test_labels_beside_the_teacher_are_traced(tmp_path: Path) -> None:
    check(distillation(tmp_path, LossSettings(use="hard"), alpha=0.5))


def test_layers_that_are_compared_are_traced(tmp_path: Path) -> None:
    features = [FeatureSettings(use="hints", student="0", teacher="hidden")]
    check(distillation(tmp_path, LossSettings(use="logits", features=features)))
