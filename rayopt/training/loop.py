"""A training from start to end in one worker: epochs, evaluation, checkpoints, and going on from one."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rayopt.errors import InputError, StepError, WorkError
from rayopt.measure.metrics import Metric, find_metric
from rayopt.models.settings import ModelSource
from rayopt.models.torch_model import from_artifact, to_artifact
from rayopt.plugins import importable
from rayopt.records import Artifact
from rayopt.training import order
from rayopt.training.agree import Seeding, from_first, has_own, mean
from rayopt.training.average import unbounded
from rayopt.training.choosing import chosen
from rayopt.training.engine import Means, Part, StepEngine
from rayopt.training.learner import Learner, TaskObjective
from rayopt.training.losses import NO_CLASS
from rayopt.training.parallel import has_unused
from rayopt.training.saving import Saving
from rayopt.training.seat import Seat
from rayopt.training.settings import TrainSettings
from rayopt.training.sharded import whole
from rayopt.training.source import Arrays, Source
from rayopt.training.stopping import has_stalled

REPORT_S = 1.0
ROWS = 512  # that are evaluated at once


@dataclass(frozen=True)
class Work:
    """What is to be trained: the same for every worker, and all that decides the result.

    selection: rows to evaluate on after each epoch, None for none; metric: a name, or the user's own
    `package.module:function`. about: what a checkpoint must agree with to be gone on from. numerics: what an earlier
    probe of such a training has found, as `chosen` gives it; None: it is probed for.
    """

    artifact: Artifact
    source: ModelSource
    rows: Source
    objective: nn.Module
    settings: TrainSettings
    seed: int
    selection: Arrays | None = None
    metric: str = "accuracy"
    about: Mapping[str, Any] = field(default_factory=dict)
    numerics: tuple[str, str, tuple[Mapping[str, Any], ...]] | None = None

    def run(self, seat: Seat) -> Trained:
        """Trains to the end, from the newest checkpoint below the seat's folder; every worker gives the same."""
        with importable(self.source.folder):
            return Loop(self, seat).run()


@dataclass(frozen=True)
class Trained:
    """A trained model and how it came about: `curve` has an entry for each epoch.

    stopped: whether who was told of it has ended it before its time; memory: what was planned to keep a budget.
    """

    artifact: Artifact
    curve: tuple[Mapping[str, float], ...]
    steps: int
    seconds: float
    samples_per_s: float
    precision: str
    layout: str
    best_epoch: int
    resumed_at: int = 0
    probed: tuple[Mapping[str, Any], ...] = ()
    stopped: bool = False
    memory: Mapping[str, Any] | None = None


class Loop:
    """One worker's run of a Work; `run` may be called once."""

    def __init__(self, work: Work, seat: Seat) -> None:
        self._work, self._seat, settings = work, seat, work.settings
        self._epoch_steps = order.steps_in(work.rows.count, settings.batch_size)
        self._steps = min(settings.epochs * self._epoch_steps, settings.steps or settings.epochs * self._epoch_steps)
        self._metric: Metric = find_metric(work.metric, work.source.folder, "metric")
        self._saving = Saving(seat, self._about(), settings.checkpoint)
        found = self._saving.found()
        self._module = from_artifact(work.artifact, work.source, work.seed)
        self._unbounded = unbounded(self._module)
        known = work.numerics if found is None else found.state["numerics"]
        self._numerics, self._probed = chosen(known, work, seat, self._module, self._steps)
        self._is_summed = getattr(work.objective, "reduction", "mean") == "sum"
        self._counting = _counting(work)
        self._seeding = Seeding(work.seed, seat.rank, has_own(self._module, work.objective, work.rows))
        means = Means(self._numerics, seat.device, self._wrap)
        objective = copy.deepcopy(work.objective)
        if self._counting is not None and isinstance(objective, TaskObjective):
            objective.gaps = True
        self._engine = StepEngine(self._module, objective, settings, self._steps, means)
        self._curve: list[dict[str, float]] = []
        self._best: dict[str, Any] | None = None
        self._total, self._epoch_rows = 0.0, 0  # of the epoch so far: losses times their rows, and rows
        self._trained_s = self._trained_rows = 0.0
        if found:
            self._load(found.state)
        self._resumed_at = self._engine.count
        self._saving.begin(self._engine.count, self._engine.is_sharded)
        self._said_at = time.monotonic()
        self._stopped = False

    def run(self) -> Trained:
        start = time.perf_counter()
        over = bool(self._curve) and self._is_over()
        while self._engine.count < self._steps and not over:
            self._epoch(self._engine.count // self._epoch_steps)
            over = self._end_epoch()
        weights = self._best["weights"] if self._best and self._work.settings.keep == "best" else self._weights()
        final = from_artifact(self._work.artifact, self._work.source, self._work.seed)
        final.load_state_dict(weights)
        rate = self._trained_rows / self._trained_s if self._trained_s else 0.0
        return Trained(
            to_artifact(final),
            tuple(self._curve),
            self._engine.count,
            time.perf_counter() - start,
            rate,
            self._numerics.precision,
            self._numerics.layout,
            int(self._best["epoch"]) if self._best else len(self._curve),
            self._resumed_at,
            self._probed,
            self._stopped,
        )

    def _wrap(self, learner: Learner) -> nn.Module:
        """The learner made parallel. DDP has to know of parameters without gradients, which one worker sees at once."""
        if self._seat.world == 2:
            batch = order.batches(self._work.rows.count, self._work.settings.batch_size, self._work.seed, 0)[0]
            x, y, rows, _ = next(self._parts(0, batch))
            learner.has_unused = bool(from_first(float(has_unused(learner, x, y, rows)), self._seat))
        return self._seat.wrap(learner)

    @property
    def _saves(self) -> bool:
        """Whether this worker is needed to evaluate and to save: the first, or any that holds a part of the model."""
        return self._seat.rank == 0 or self._engine.is_sharded

    def _epoch(self, epoch: int) -> None:
        """The steps of an epoch that are not done yet."""
        work, engine = self._work, self._engine
        batches = order.batches(work.rows.count, work.settings.batch_size, work.seed, epoch)
        began = time.perf_counter()
        for batch in batches[engine.count - epoch * self._epoch_steps :]:
            if engine.count == self._steps:
                break
            self._seeding.step(engine.count)
            with self._blamed(f"step {engine.count + 1} of {self._steps}"):
                loss = engine.step(list(self._parts(epoch, batch)))
            self._total += loss if self._is_summed else loss * len(batch)
            self._epoch_rows += len(batch)
            self._trained_rows += len(batch)
            ended = time.perf_counter()
            self._trained_s += ended - began
            began = ended
            self._look_up(epoch)

    @contextlib.contextmanager
    def _blamed(self, where: str) -> Iterator[None]:
        """What data, model, loss and metric raise ends the training, and says where and what there is to go on from."""
        try:
            yield
        except (InputError, WorkError):
            raise
        except Exception as error:
            what = str(error) if isinstance(error, StepError) else f"{type(error).__name__}: {error}"
            raise StepError(f"{where}: {what}; {self._saving.last}") from error

    def _parts(self, epoch: int, batch: Tensor) -> Iterator[Part]:
        seat, numerics = self._seat, self._numerics
        for micro in order.micros(batch, seat.rank, seat.world, self._work.settings.micro_batch):
            x, y, rows = self._work.rows.batch(epoch, micro.rows)
            if seat.device.type != "cpu":
                x, y, rows = (one.to(seat.device, non_blocking=True) for one in (x, y, rows))
            share = seat.world * (micro.share > 0) if self._is_summed else micro.share
            if self._counting is not None and micro.share:
                share = seat.world * float(self._counting[micro.rows].sum() / self._counting[batch].sum().clamp_min(1))
            yield numerics.laid_out(x), y, rows, share

    def _look_up(self, epoch: int) -> None:
        """After a step: a checkpoint or a word on how it goes, where it is time for them."""
        if not self._saves:
            return
        if self._engine.count % self._epoch_steps == 0:  # the end of an epoch has its own
            return
        if self._saving.is_asked_for and self._saving.is_due(self._engine.count):
            self._save(self._progress(epoch))
        elif time.monotonic() - self._said_at >= REPORT_S and not self._seat.rank:
            self._tell(self._progress(epoch), None)

    def _tell(self, told: Mapping[str, float], path: Path | None) -> bool:
        self._said_at = time.monotonic()
        return self._seat.report(told, path) is True

    def _progress(self, epoch: int) -> dict[str, float]:
        engine = self._engine
        rate = self._trained_rows / self._trained_s if self._trained_s else 0.0
        left = (self._steps - engine.count) * self._work.settings.batch_size
        return {
            "step": engine.count,
            "steps": self._steps,
            "epoch": epoch + 1,
            **({"loss": self._total / self._epoch_rows} if self._epoch_rows else {}),
            "lr": engine.lr,
            "samples_per_s": rate,
            **({"left_s": left / rate} if rate else {}),
        }

    def _end_epoch(self) -> bool:
        """Evaluates, remembers, reports; gives whether the training is over before its time."""
        seat, engine = self._seat, self._engine
        epoch = -(-engine.count // self._epoch_steps)
        loss = mean(self._total, seat) / self._epoch_rows
        entry = {"epoch": epoch, "step": engine.count, "lr": engine.lr, "loss": loss, **self._evaluated()}
        progress = self._progress(epoch - 1)
        self._total, self._epoch_rows = 0.0, 0
        self._curve.append(entry)
        self._note_best(entry)
        over = self._is_over() or engine.count >= self._steps
        stop = 0.0
        if self._saves:
            told = {**progress, **entry}
            due = over or self._engine.is_sharded or self._saving.is_due(engine.count)
            stop = float(self._save(told) if due else self._tell(told, None))
            if stop and not due:
                self._write()
        self._stopped = bool(from_first(stop, seat))
        return over or self._stopped

    def _evaluated(self) -> dict[str, float]:
        """The selection split's loss and metric, the same in all workers."""
        selection = self._work.selection
        if selection is None:
            return {}
        found = [0.0, 0.0]
        if self._saves:
            with self._blamed(f"evaluation by {self._work.metric} after step {self._engine.count}"):
                outputs, targets = self._outputs(selection), torch.tensor(selection.y)
                found[0] = self._loss(outputs, targets)
                found[1] = float(self._metric.function(selection.y, outputs.numpy()))
        loss, value = (from_first(one, self._seat) for one in found)
        return {"selection_loss": loss, self._metric.name: value}

    def _loss(self, outputs: Tensor, targets: Tensor) -> float:
        """The task's own loss; where outputs are of another shape, only the training's own objective can tell one."""
        numbers = torch.arange(len(targets))
        try:
            return float(TaskObjective()(outputs, targets, numbers))
        except StepError:
            own = copy.deepcopy(self._work.objective)
            with torch.no_grad():
                return float(own(outputs, targets, numbers)) / (len(targets) if self._is_summed else 1)

    def _outputs(self, selection: Arrays) -> Tensor:
        found: list[Tensor] = []
        with self._engine.evaluating() as module:
            for rows in torch.split(torch.arange(selection.count), ROWS):
                x, _, _ = selection.batch(0, rows)
                found.append(module(self._numerics.laid_out(x.to(self._seat.device))).float().cpu())
        return torch.cat(found)

    def _note_best(self, entry: Mapping[str, float]) -> None:
        value = entry.get(self._metric.name)
        if value is None or not math.isfinite(value):
            return
        sign = 1 if self._metric.higher_is_better else -1
        if self._best is None or sign * value > sign * self._best["value"]:
            self._best = {"value": value, "epoch": int(entry["epoch"]), "weights": self._weights()}

    def _is_over(self) -> bool:
        return has_stalled(self._curve, self._metric, self._work.settings.early_stop)

    def _weights(self) -> dict[str, Tensor]:
        """The state of the model as it would be shipped now, copied."""
        with self._engine.evaluating() as module:
            state = whole(module.state_dict())
            return {name: one.detach().cpu().clone().contiguous() for name, one in state.items()}

    def _save(self, told: Mapping[str, float]) -> bool:
        """Writes a checkpoint and tells of it; gives whether to stop."""
        path = self._write()
        return path is not None and self._tell(told, path)

    def _write(self) -> Path | None:
        """Writes a checkpoint; gives its folder in the worker that wrote it."""
        count, engine = self._engine.count, self._engine.state()
        if not is_finite({name: one for name, one in engine["module"].items() if name not in self._unbounded}):
            raise StepError(f"the weights are not finite after step {count}; {self._saving.last}")
        state = {
            "engine": engine,
            "curve": self._curve,
            "best": self._best,
            "epoch": [self._total, self._epoch_rows],
            "trained": [self._trained_s, self._trained_rows],
            "numerics": [self._numerics.precision, self._numerics.layout, list(self._probed)],
        }
        return self._saving.write(count, state)

    def _load(self, state: dict[str, Any]) -> None:
        self._engine.load(state["engine"])
        self._curve, self._best = state["curve"], state["best"]
        self._total, self._epoch_rows = state["epoch"]
        self._trained_s, self._trained_rows = state["trained"]

    def _about(self) -> dict[str, Any]:
        work = self._work
        settings = work.settings.model_dump(mode="json", exclude={"checkpoint", "memory"})
        model = {"model": work.artifact.sha256, **work.source.settings.maker}
        return {**work.about, **settings, **model, "seed": work.seed, "rows": work.rows.count}


def _counting(work: Work) -> Tensor | None:
    """How many places of each row have a class, where some have none and the loss is the mean over those that have."""
    if not (isinstance(work.objective, TaskObjective) and isinstance(work.rows, Arrays)):
        return None
    classes = work.rows.y
    if classes.dtype.kind not in "iu" or not (gaps := classes == NO_CLASS).any():
        return None
    return torch.tensor((~gaps).reshape(len(classes), -1).sum(axis=1))


def is_finite(state: Mapping[str, Tensor]) -> bool:
    """Whether all floating point numbers of a model are."""
    return all(bool(torch.isfinite(one).all()) for one in state.values() if one.is_floating_point())
