"""A small training as the loop takes it."""

from __future__ import annotations

from typing import Any

import numpy as np

from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.models.torch_model import build, to_artifact
from rayopt.training.learner import TaskObjective
from rayopt.training.loop import Work
from rayopt.training.settings import TrainSettings
from rayopt.training.source import Arrays


def work(**settings: Any) -> Work:
    """A perceptron and random rows; settings as a job writes them."""
    args = {"features": 6, "outputs": 3, "hidden": 32}
    source = ModelSource(ModelSettings(factory="rayopt.models.zoo:mlp", args=args), ".")
    generator = np.random.default_rng(0)
    rows = Arrays(generator.random((96, 6), dtype=np.float32), np.arange(96) % 3)
    filled = TrainSettings(batch_size=64, layout="contiguous", **settings)
    return Work(to_artifact(build(source, 0)), source, rows, TaskObjective(), filled, 0)
