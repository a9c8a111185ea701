"""DistributedTrainer: the textbook's `setup`, `train`, `cleanup` for a torch model, without ports or ranks by hand."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn

from rayopt.errors import Fault, InputError, input_error
from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.models.torch_model import from_artifact, to_artifact
from rayopt.onray.parcel import refuse
from rayopt.training.learner import TaskObjective
from rayopt.training.loop import Trained, Work
from rayopt.training.seat import OneSeat, OnReport
from rayopt.training.settings import TrainSettings
from rayopt.training.source import Arrays


class DistributedTrainer:
    """Trains `model` in place with `world_size` workers: on the Ray that you have started, or on one of its own.

        with DistributedTrainer(model, world_size=2) as trainer:
            trained = trainer.train(x, y, epochs=3, batch_size=64)

    One worker needs no Ray and runs in this process. resources: what each worker asks for, `{"GPU": 1}` for example.
    """

    def __init__(self, model: nn.Module, world_size: int, resources: Mapping[str, float] | None = None) -> None:
        if world_size < 1:
            raise input_error("world_size", f"{world_size} workers train nothing", "give 1 or more")
        refuse(model, "model")
        self.model, self.world_size = model, world_size
        self._resources = resources
        self._host: Any = None

    def setup(self) -> None:
        """Connects to Ray, or starts one; `train` does so by itself."""
        from rayopt.onray.train import RayTrain

        if self._host is None and self.world_size > 1:
            self._host = RayTrain(resources=self._resources)

    def train(
        self,
        x: Any,
        y: Any = None,
        *,
        objective: nn.Module | None = None,
        folder: str | Path | None = None,
        on_report: OnReport = lambda metrics: None,
        seed: int = 0,
        **settings: Any,
    ) -> Trained:
        """Trains on rows x `(rows, *features)` and targets y `(rows, ...)`, or on a Dataset of such pairs.

        settings: as in a job's `train:`, such as epochs, batch_size, `optimizer={"use": "adamw"}`. objective: called
        `(outputs, targets, rows)`; the task's own loss where none is given. folder: where checkpoints lie, which the
        same call goes on from; they are not kept where none is named. Raises InputError, StepError and WorkError.
        """
        self.setup()
        work = self._work(_arrays(x, y), objective, _settings(settings), seed)
        with tempfile.TemporaryDirectory(prefix="rayopt-train-") as aside:
            place = Path(folder if folder is not None else aside)
            if self._host is None:
                trained = work.run(OneSeat(place, on_report))
            else:
                trained = self._host.run(work, self.world_size, place, on_report)
        self.model.load_state_dict(from_artifact(trained.artifact, work.source, seed).state_dict())
        return trained

    def cleanup(self) -> None:
        """Ends what `setup` has started."""
        if self._host is not None:
            self._host.close()
            self._host = None

    def __enter__(self) -> DistributedTrainer:
        self.setup()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cleanup()

    def _work(self, rows: Arrays, objective: nn.Module | None, settings: TrainSettings, seed: int) -> Work:
        bare = copy.deepcopy(self.model).cpu()
        model = ModelSettings(factory=f"{__name__}:given", args={"module": bare})
        task = objective if objective is not None else TaskObjective(settings.label_smoothing)
        return Work(to_artifact(bare), ModelSource(model, ""), rows, task, settings, seed)


def given(module: nn.Module) -> nn.Module:
    """The factory of a model that is there already."""
    return copy.deepcopy(module)


def _arrays(x: Any, y: Any) -> Arrays:
    if y is None:
        pairs = [(torch.as_tensor(features), torch.as_tensor(target)) for features, target in _items(x)]
        x, y = (torch.stack(column) for column in zip(*pairs, strict=True))
    features, targets = (np.asarray(torch.as_tensor(one).detach().cpu().numpy()) for one in (x, y))
    if len(features) != len(targets):
        raise input_error("y", f"has {len(targets)} rows, x has {len(features)}", "give one target for each row")
    if targets.dtype.kind in "iub":
        targets = targets.astype(np.int64)
    return Arrays(features, targets)


def _items(data: Any) -> Any:
    """The pairs of a Dataset or of what can be gone through; a DataLoader's are those of its dataset."""
    data = getattr(data, "dataset", data)
    return (data[index] for index in range(len(data))) if hasattr(data, "__getitem__") else data


def _settings(given: Mapping[str, Any]) -> TrainSettings:
    try:
        return TrainSettings.model_validate(given)
    except ValidationError as error:
        faults = [Fault(".".join(map(str, one["loc"])) or "settings", one["msg"]) for one in error.errors()]
        raise InputError(faults) from error
