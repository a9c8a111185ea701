"""rayopt: model optimisation jobs on Ray. The public names load what they need when they are first used."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "BayesOptimizer": "rayopt.bayes",
    "DistributedTrainer": "rayopt.onray.distributed",
    "GPUOptimizer": "rayopt.gpu",
    "DistillationLoss": "rayopt.training.distillation",
    "DistillationTrainer": "rayopt.training.distillation",
    "HyperparameterOptimizer": "rayopt.tuner",
    "InputError": "rayopt.errors",
    "ModelCompressor": "rayopt.compressor",
    "ModelOptimizer": "rayopt.optimizer",
    "RayoptError": "rayopt.errors",
    "StepError": "rayopt.errors",
    "WorkError": "rayopt.errors",
    "load_estimator": "rayopt.estimators",
    "run": "rayopt.api",
}

__all__ = [
    "BayesOptimizer",
    "DistillationLoss",
    "DistillationTrainer",
    "DistributedTrainer",
    "GPUOptimizer",
    "HyperparameterOptimizer",
    "InputError",
    "ModelCompressor",
    "ModelOptimizer",
    "RayoptError",
    "StepError",
    "WorkError",
    "load_estimator",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rayopt' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
