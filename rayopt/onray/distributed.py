"""DistributedTrainer: the textbook's `setup`, `train`, `cleanup` for a torch model, without ports or ranks by hand."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler

from rayopt.errors import Fault, InputError, did_you_mean, input_error
from rayopt.memory.filled import filled
from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.models.torch_model import from_artifact, to_artifact
from rayopt.onray.parcel import refuse
from rayopt.training.identity import identity
from rayopt.training.learner import TaskObjective
from rayopt.training.loop import Trained, Work
from rayopt.training.seat import OneSeat, OnReport, best_device
from rayopt.training.settings import TrainSettings
from rayopt.training.source import Arrays

SHARDINGS = ("ddp", "fsdp")


class DistributedTrainer:
    """Trains `model` in place with `world_size` workers: on the Ray that you have started, or on one of its own.

        with DistributedTrainer(model, world_size=2) as trainer:
            trained = trainer.train(x, y, epochs=3, batch_size=64)

    One worker needs no Ray and runs in this process, unless a cluster's `address` is given. world_size: a number, or
    `(least, most)` for as many as there is room for. resources: what each worker asks for, `{"GPU": 1}` for example.
    sharding: `ddp` gives each worker the whole model, `fsdp` a part.
    """

    def __init__(
        self,
        model: nn.Module,
        world_size: int | tuple[int, int],
        resources: Mapping[str, float] | None = None,
        *,
        sharding: str = "ddp",
        address: str | None = None,
    ) -> None:
        self._least = _least(world_size)
        if sharding not in SHARDINGS:
            raise input_error("sharding", f"there is no {sharding!r}", did_you_mean(sharding, list(SHARDINGS)))
        refuse(model, "model")
        self.model, self.world_size = model, world_size
        self._given = address, resources, sharding
        self._is_alone = world_size in (1, (1, 1)) and address is None
        self._host: Any = None

    def setup(self) -> None:
        """Connects to Ray, or starts one; `train` does so by itself."""
        from rayopt.onray.train import RayTrain

        if self._host is None and not self._is_alone:
            self._host = RayTrain(*self._given)

    def train(
        self,
        x: Any,
        y: Any = None,
        *,
        selection: tuple[Any, Any] | Any = None,
        metric: str = "auto",
        objective: nn.Module | None = None,
        folder: str | Path | None = None,
        on_report: OnReport = lambda metrics: None,
        seed: int = 0,
        **settings: Any,
    ) -> Trained:
        """Trains on rows x `(rows, *features)` and targets y `(rows, ...)`, or on a Dataset of such pairs.

        settings: as in a job's `train:`, such as epochs, batch_size, `optimizer={"use": "adamw"}`. selection: rows like
        x and y to evaluate on by `metric` after each epoch; the weights of the best one are kept. objective: called
        `(outputs, targets, rows)`; the task's own loss where none is given. folder: where checkpoints lie, which the
        same call goes on from; they are not kept where none is named. Raises InputError, StepError and WorkError.
        """
        rows = self._rows(x, y)
        work = replace(self._work(rows, objective, _settings(settings), seed), metric=_metric(metric, rows))
        if selection is not None:
            pair = selection if isinstance(selection, tuple) else (selection, None)
            work = replace(work, selection=self._rows(*pair))
        told = work.selection.sha256 if work.selection is not None else None
        work = replace(work, about={**work.about, "metric": work.metric, "selection": told})
        _check(work, self._least)
        self.setup()
        with tempfile.TemporaryDirectory(prefix="rayopt-train-") as aside:
            place = Path(folder if folder is not None else aside)
            planned = filled(work, place, workers=self._least, device=self._device(), sharding=self._given[2])
            work = replace(work, settings=planned[0])
            if self._host is None:
                trained = work.run(OneSeat(place, on_report))
            else:
                trained = self._host.run(work, self.world_size, place, on_report)
        self.model.load_state_dict(from_artifact(trained.artifact, work.source, seed).state_dict())
        return replace(trained, memory=planned[1])

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

    def _rows(self, x: Any, y: Any) -> Arrays:
        """Rows in the numbers that the model computes in."""
        kinds = [one.dtype for one in self.model.parameters() if one.is_floating_point()]
        if torch.bfloat16 in kinds:
            raise input_error("model", "has weights in bfloat16", 'give float32 weights, and `precision="bf16"`')
        return _arrays(x, y, kinds[0] if kinds else torch.float32)

    def _device(self) -> torch.device:
        """Where a worker computes, for who plans its memory here."""
        has_gpu = self._host is None or (self._given[1] or {}).get("GPU", 0) > 0
        return best_device() if has_gpu else torch.device("cpu")

    def _work(self, rows: Arrays, objective: nn.Module | None, settings: TrainSettings, seed: int) -> Work:
        bare = copy.deepcopy(self.model).cpu()
        model = ModelSettings(factory=f"{__name__}:given", args={"module": bare})
        task = objective if objective is not None else TaskObjective(settings.label_smoothing)
        about = {"data": rows.sha256, "objective": identity(task), "made": identity(bare), "workers": self.world_size}
        return Work(to_artifact(bare), ModelSource(model, ""), rows, task, settings, seed, about=about)


def given(module: nn.Module) -> nn.Module:
    """The factory of a model that is there already."""
    return copy.deepcopy(module)


def _least(world_size: Any) -> int:
    """The fewest workers; raises InputError for what is no number of them and no range."""
    pair = world_size if isinstance(world_size, tuple) else (world_size, world_size)
    if len(pair) != 2 or not all(isinstance(one, int) for one in pair):
        raise input_error("world_size", f"{world_size!r} is no number of workers", "give 2, or (1, 4) for a range")
    if pair[0] < 1:
        raise input_error("world_size", f"{pair[0]} workers train nothing", "give 1 or more")
    if pair[0] > pair[1]:
        raise input_error("world_size", f"{pair[0]} at least is more than {pair[1]} at most", "exchange them")
    return int(pair[0])


def _metric(name: str, rows: Arrays) -> str:
    if name != "auto":
        return name
    return "accuracy" if rows.y.dtype.kind == "i" else "r2"


def _check(work: Work, workers: int) -> None:
    """Raises InputError for settings that these rows or workers cannot keep."""
    settings, rows = work.settings, work.rows.count
    if settings.batch_size > rows:
        problem = f"{settings.batch_size} rows make a batch, and there are {rows} to train on"
        raise input_error("batch_size", problem, f"give {rows} at most")
    if settings.batch_size < workers:
        problem = f"{settings.batch_size} rows cannot be shared among {workers} workers"
        raise input_error("batch_size", problem, "give more rows, or fewer workers")
    if settings.early_stop is not None and work.selection is None:
        raise input_error("early_stop", "there are no rows to see by whether it gets better", "give selection=(x, y)")


def _arrays(x: Any, y: Any, floating: torch.dtype) -> Arrays:
    if y is None:
        pairs = list(_pairs(x))
        x, y = (torch.stack(column) for column in zip(*pairs, strict=True))
    features, targets = (_array(one, floating) for one in (x, y))
    if len(features) != len(targets):
        raise input_error("y", f"has {len(targets)} rows, x has {len(features)}", "give one target for each row")
    if targets.dtype.kind in "iub":
        targets = targets.astype(np.int64)
    return Arrays(features, targets)


def _array(data: Any, floating: torch.dtype) -> Any:
    tensor = torch.as_tensor(data).detach().cpu()
    return np.asarray((tensor.to(floating) if tensor.is_floating_point() else tensor).numpy())


def _pairs(data: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The pairs of a Dataset or of what can be gone through; raises InputError with the row that cannot be had."""
    items, number = iter(_items(data)), 0
    while True:
        try:
            features, target = next(items)
            pair = torch.as_tensor(features), torch.as_tensor(target)
        except StopIteration:
            return
        except Exception as error:
            problem = f"row {number} cannot be had: {type(error).__name__}: {error}"
            raise input_error("x", problem, "give rows that are pairs of features and target") from error
        yield pair
        number += 1


def _items(data: Any) -> Any:
    """The items of a Dataset; a DataLoader's are those of its dataset that its sampler goes through, in their order."""
    if isinstance(data, DataLoader):
        shuffled = isinstance(data.sampler, RandomSampler | SequentialSampler)
        if not (isinstance(data.dataset, IterableDataset) or shuffled):
            return (data.dataset[index] for index in sorted({int(one) for one in data.sampler}))
        data = data.dataset
    is_list = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    return (data[index] for index in range(len(data))) if is_list else data


def _settings(given: Mapping[str, Any]) -> TrainSettings:
    try:
        return TrainSettings.model_validate(given)
    except ValidationError as error:
        faults = [Fault(".".join(map(str, one["loc"])) or "settings", one["msg"]) for one in error.errors()]
        raise InputError(faults) from error
