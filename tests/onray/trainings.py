"""Trainings that are small, with everything on that a training goes on from bit for bit."""

from __future__ import annotations

import numpy as np

from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.models.torch_model import build, to_artifact
from rayopt.training.learner import TaskObjective
from rayopt.training.loop import Work
from rayopt.training.settings import CheckpointSettings, TrainSettings
from rayopt.training.source import Arrays


def training(epochs: int = 3, every: int = 10, seed: int = 0, rows: int = 660, width: int = 8) -> Work:
    """bf16, two micro-batches for each worker, clipping, an average; a batch that is ragged ends each epoch."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, 1, 8, 8)).astype(np.float32)
    y = (x.mean(axis=(1, 2, 3)) > 0).astype(np.int64)
    model = {"factory": "rayopt.models.zoo:resnet", "args": {"classes": 2, "widths": [width, width]}}
    source = ModelSource(ModelSettings.model_validate(model), "")
    settings = TrainSettings(
        epochs=epochs, batch_size=32, micro_batch=8, precision="bf16", layout="contiguous", clip_norm=1.0, ema=0.95,
        label_smoothing=0.1, keep="last", checkpoint=CheckpointSettings(every_steps=every),
    )  # fmt: skip
    return Work(
        to_artifact(build(source, seed)), source, Arrays(x, y), TaskObjective(0.1), settings, seed,
        selection=Arrays(x[:100], y[:100]),
    )  # fmt: skip
