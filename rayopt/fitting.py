"""A training from start to end: where it runs, what is told of it meanwhile, and the model that comes out, measured."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from rayopt.engine import Desk
from rayopt.errors import RayoptError, StepError, WorkError, input_error
from rayopt.measure.machine import machine
from rayopt.memory.filled import filled
from rayopt.models.settings import ModelSource
from rayopt.models.threads import torch_threads
from rayopt.records import Artifact, digest
from rayopt.runs import journal
from rayopt.runs.cache import Entry
from rayopt.runs.files import write_json
from rayopt.shipping import ship, shown
from rayopt.tasks import code_hash, sources, versions
from rayopt.training.loop import Trained, Work
from rayopt.training.seat import OneSeat, best_device
from rayopt.training.settings import TrainSettings
from rayopt.training.source import labeled
from rayopt.work import Bench

HERE = ("local", "inprocess")  # where one worker trains in this process


@dataclass(frozen=True)
class Place:
    """How many workers train, what each asks for, and whether each has all of the model (`ddp`) or a part (`fsdp`)."""

    workers: int | tuple[int, int] = 1
    resources: Mapping[str, float] | None = None
    sharding: str = "ddp"

    @property
    def is_one(self) -> bool:
        return self.workers in (1, (1, 1))

    @property
    def least(self) -> int:
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def threads(self) -> int:
        return max(1, int((self.resources or {}).get("CPU", 1)))


@dataclass(frozen=True)
class Training:
    """A checked training job with its model and data."""

    job: dict[str, Any]
    bench: Bench
    model: Artifact
    fingerprint: str
    settings: TrainSettings
    place: Place
    loss: str = "auto"

    @cached_property
    def hash(self) -> str:
        code = code_of(self.bench.source, self.bench.metric, self.settings, self.loss)
        return digest([self.job, self.fingerprint, self.bench.data.sha256, code])

    def plan(self) -> dict[str, Any]:
        data = self.bench.data
        told = {
            "sha256": data.sha256,
            "task": data.task,
            "classes": list(data.classes),
            "shape": list(labeled(data["train"]).x.shape[1:]),
            "rows": {name: len(split) for name, split in data.splits.items()},
        }
        return {"job": self.job, "metric": self.bench.metric, "data": told, "model": self.fingerprint}


class Fitting:
    """One run of a training; `run` may be called once."""

    def __init__(self, training: Training, desk: Desk) -> None:
        self._training, self._desk = training, desk

    def run(self) -> dict[str, Any]:
        """Everything; the summary is written however the run ends. Raises WorkError where the training fails."""
        from rayopt.training.learner import objective_of

        training, start = self._training, time.perf_counter()
        rows, selection = training.bench.data["train"], training.bench.data["selection"]
        work = Work(
            training.model,
            training.bench.source,
            labeled(rows),
            objective_of(training.loss, training.settings.label_smoothing),
            training.settings,
            training.bench.seed,
            labeled(selection),
            training.bench.metric,
            {
                "data": training.bench.data.sha256,
                "fingerprint": training.fingerprint,
                "metric": training.bench.metric,
                "loss": training.loss,
                "workers": training.place.workers,
            },
        )
        try:
            trained = fit(work, training.place, self._desk)
            shipped = ship(trained, training.bench, training.hash, self._desk)
        except KeyboardInterrupt:
            self._write("interrupted", start)
            raise
        except RayoptError as error:
            self._write("failed", start, str(error))
            raise WorkError(str(error)) if isinstance(error, StepError) else error from error
        self._desk.folder.keep_artifacts([shipped["id"]])
        return self._write("done", start, told={**told_of(trained), **shown(shipped)})

    def _write(
        self, status: str, start: float, reason: str | None = None, told: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        training = self._training
        summary = {
            "kind": training.job["kind"],
            "name": training.job["name"],
            "status": status,
            "reason": reason,
            "seconds": round(time.perf_counter() - start, 2),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "job_hash": training.hash,
            "task": training.bench.data.task,
            "metric": training.bench.metric.rpartition(":")[2],
            "workers": training.place.workers,
            **(told or {}),
            "environment": {**machine(), "versions": versions()},
        }
        write_json(self._desk.folder.summary, summary)
        return summary


def fit(work: Work, place: Place, desk: Desk, folder: Path | None = None, training: str = "") -> Trained:
    """Trains in this process, or on Ray where there are several workers or a cluster is named.

    A training that was finished before, in whatever run, is not done again. folder: for checkpoints, the run's where
    nothing is said. training: names one besides the one that the job is for. Raises StepError or WorkError where the
    training fails, InputError where its memory does not do.
    """
    folder = folder or desk.folder.checkpoints
    work = replace(work, about={**work.about, "code": _code(work)})
    key = _key(work, folder.name)
    entry = desk.cache.get(key)
    if entry is not None:
        desk.watcher.note(f"{folder.name}: this training was finished before")
        return Trained(artifact=Artifact("torch", entry.files), **entry.value)
    settings, planned = filled(
        work, folder, workers=place.least, device=_device(place, desk.where), sharding=place.sharding
    )
    work = replace(work, settings=settings)
    probe_key = _probe_key(work, place, desk.where)
    probed = desk.cache.get(probe_key)
    if probed is not None:
        work = replace(
            work, numerics=(probed.value["precision"], probed.value["layout"], tuple(probed.value["probed"]))
        )
    trained = replace(_trained(work, place, desk, folder, training), memory=planned)
    if probed is None:
        names = ("precision", "layout", "probed")
        desk.cache.put(probe_key, Entry({name: getattr(trained, name) for name in names}, {}))
    if not trained.stopped:
        told = {one.name: getattr(trained, one.name) for one in fields(trained) if one.name != "artifact"}
        desk.cache.put(key, Entry(told, trained.artifact.files))
    return trained


def _trained(work: Work, place: Place, desk: Desk, folder: Path, training: str) -> Trained:
    told = Told(desk, training)
    if place.is_one and desk.where in HERE:
        with torch_threads(place.threads):
            return work.run(OneSeat(folder, told))
    if desk.open_host is None:
        raise input_error("workers", f"{place.workers} workers need Ray", "leave `--address inprocess` out")
    began = time.perf_counter()
    host = desk.open_host(place.resources or {}, place.sharding)
    desk.watcher.backend_started(host.name, None, time.perf_counter() - began)
    return host.run(work, place.workers, folder, told)


def _device(place: Place, where: str) -> torch.device:
    """What a worker computes on, as far as this process sees such devices."""
    is_here = place.is_one and where in HERE
    return best_device() if is_here or (place.resources or {}).get("GPU", 0) > 0 else torch.device("cpu")


def _key(work: Work, name: str) -> str:
    """All that decides what a training gives, for the cache; `name` tells the trainings of one job apart."""
    settings = work.settings.model_dump(mode="json", exclude={"checkpoint"})
    model = [work.artifact.sha256, work.source.settings.maker]
    about = [dict(work.about), settings, *model, work.seed, work.rows.count, work.metric]
    return digest(["training", name, *about, versions(), code_hash()])


def _code(work: Work) -> str:
    return code_of(work.source, work.metric, work.settings, getattr(work.objective, "path", ""))


def code_of(source: ModelSource, metric: str, settings: TrainSettings, loss: str = "") -> str:
    """A hash of the sources of what a training uses of the job's own."""
    own = (str(source.settings.factory), metric, settings.optimizer.use, loss)
    return sources({name for name in own if ":" in name}, source.folder).sha256


def _probe_key(work: Work, place: Place, where: str) -> str:
    """All that a probe's answer may depend on but chance: the same training on the same machine takes the same one."""
    settings = work.settings
    step = [settings.batch_size, settings.micro_batch, settings.activation_checkpointing, settings.compile]
    wanted = [settings.precision, settings.layout, settings.optimizer.model_dump(mode="json")]
    model = [work.source.settings.maker, work.about.get("code"), type(work.objective).__name__]
    rows = [[str(one.dtype), list(one.shape[1:])] for one in work.rows.batch(0, torch.arange(1))[:2]]
    there = [place.workers, dict(place.resources or {}), place.sharding, where, machine().get("cpu")]
    there += [str(_device(place, where))]
    return digest(["probe", step, wanted, model, rows, there, versions(), code_hash()])


class Told:
    """Passes on what a training reports: a line of the journal for each epoch, and a word to the watcher."""

    def __init__(self, desk: Desk, training: str) -> None:
        self._watcher, self._path, self._training = desk.watcher, desk.folder.outcomes, training
        lines = journal.read(self._path)
        self._known = {line.get("epoch") for line in lines if line.get("training", "") == training}
        self._planned = False

    def __call__(self, metrics: Mapping[str, float]) -> bool:
        if not self._planned:
            self._planned = True
            self._watcher.planned(int(metrics["steps"]))
        stop = self._watcher.measured(int(metrics["step"]), metrics, self._training)
        if "selection_loss" in metrics and metrics["epoch"] not in self._known:
            self._known.add(metrics["epoch"])
            named = {"training": self._training} if self._training else {}
            journal.append(self._path, named | {name: one for name, one in metrics.items() if name != "left_s"})
        return stop


def told_of(trained: Trained) -> dict[str, Any]:
    """What a summary says of how a model was trained."""
    return {
        "steps_count": trained.steps,
        "epochs": len(trained.curve),
        "best_epoch": trained.best_epoch,
        "resumed_at": trained.resumed_at or None,
        "samples_per_s": round(trained.samples_per_s, 1),
        "precision": trained.precision,
        "layout": trained.layout,
        "probed": list(trained.probed),
        "memory": trained.memory,
        "curve": [dict(one) for one in trained.curve],
    }
