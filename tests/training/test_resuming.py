"""A training that was broken off and taken up again ends with the very same weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.models.torch_model import build, to_artifact
from rayopt.training.learner import TaskObjective
from rayopt.training.loop import Trained, Work
from rayopt.training.seat import OneSeat
from rayopt.training.settings import TrainSettings
from rayopt.training.source import Arrays


class BrokenOff(BaseException):
    """As by Ctrl-C."""


def images(**settings: object) -> Work:
    """Seven steps an epoch, the last of them ragged; images are not square, so that a mixed-up layout shows."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(50, 3, 8, 10)).astype(np.float32)
    y = (x.mean(axis=(1, 2, 3)) > 0).astype(np.int64)
    model = {"factory": "rayopt.models.zoo:resnet", "args": {"channels": 3, "classes": 2, "widths": [4, 8]}}
    source = ModelSource(ModelSettings.model_validate(model), "")
    asked = TrainSettings.model_validate({"epochs": 2, "batch_size": 8, "checkpoint": {"every_steps": 3}, **settings})
    return Work(to_artifact(build(source, 0)), source, Arrays(x, y), TaskObjective(), asked, 0, Arrays(x, y))


def broken_off(work: Work, folder: Path, times: int) -> Trained:
    """Breaks off at two checkpoints' distance, so many times, then lets it end."""
    for number in range(1, times + 1):
        with pytest.raises(BrokenOff):
            work.run(OneSeat(folder, _at(6 * number)))
    return work.run(OneSeat(folder))


def _at(step: int) -> Callable[[Mapping[str, float]], None]:
    def told(metrics: Mapping[str, float]) -> None:
        if metrics["step"] >= step:
            raise BrokenOff

    return told


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_the_weights_are_those_of_an_undisturbed_training(
    layout: str, precision: str, optimizer: str, tmp_path: Path
) -> None:
    work = images(
        precision=precision, layout=layout, optimizer={"use": optimizer}, ema=0.9, clip_norm=1.0, micro_batch=3
    )
    undisturbed = work.run(OneSeat(tmp_path / "undisturbed"))
    disturbed = broken_off(work, tmp_path / "disturbed", 2)
    assert disturbed.resumed_at > 0
    assert disturbed.artifact.sha256 == undisturbed.artifact.sha256
    assert disturbed.curve == undisturbed.curve
