"""`memory: {budget: 8GiB}` of a training: the plan is made once, filled into its settings, and kept for resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from rayopt.memory.settings import budget_bytes
from rayopt.memory.steps import steps_of
from rayopt.memory.work import Workers, answer
from rayopt.models.torch_model import from_artifact
from rayopt.plugins import importable
from rayopt.records import digest
from rayopt.runs.files import write_json
from rayopt.training.loop import Work
from rayopt.training.seat import best_device
from rayopt.training.settings import TrainSettings

FILE = "memory.json"


def filled(
    work: Work,
    folder: Path,
    place: str = "memory.budget",
    workers: int = 1,
    device: torch.device | None = None,
    sharding: str = "ddp",
) -> tuple[TrainSettings, dict[str, Any] | None]:
    """The settings of a work with the answer to its memory budget filled in, and what explains the answer.

    The same settings and None where it has no budget. What was planned lies in `folder` and is taken from there when
    the same training goes on: timings differ from run to run, a training's settings must not. device: where the
    training computes, the first GPU where nothing is said and torch sees one. Raises InputError at `place` where
    nothing fits.
    """
    settings = work.settings
    if settings.memory is None:
        return settings, None
    device = device or best_device()
    there = [workers, sharding, device.type]
    shapes = [[str(one.dtype), *one.shape[1:]] for one in work.rows.batch(0, torch.arange(1))]
    what = [work.artifact.sha256, dict(work.about), work.rows.count, shapes, work.seed]
    id = digest([settings.model_dump(mode="json"), *what, *there])
    path = folder / FILE
    kept = _read(path, id)
    if kept is None:
        with importable(work.source.folder):
            module = from_artifact(work.artifact, work.source, work.seed)
            steps = steps_of(module, work.objective, work.rows, settings, device)
            budget = budget_bytes(settings.memory.budget, place)
            found = answer(steps, budget, place, Workers(workers, sharding))
        kept = {"id": id, "settings": found.settings(settings).model_dump(mode="json"), "answer": found.summary}
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, kept)
        kept = json.loads(json.dumps(kept))  # the same now as when it is read again
    return TrainSettings.model_validate(kept["settings"]), kept["answer"]


def _read(path: Path, id: str) -> dict[str, Any] | None:
    """What was planned for this training; None where nothing was, or for another."""
    try:
        kept: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return kept if kept.get("id") == id else None
