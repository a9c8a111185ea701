"""The kind `memory`: a training and a budget in; how to take its steps within it out, before anything is trained."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rayopt import course
from rayopt.data import settings as data_settings
from rayopt.data.settings import DataSettings
from rayopt.errors import Fault, InputError
from rayopt.kinds import JobSettings
from rayopt.models import settings as model_settings
from rayopt.models.settings import ModelSettings
from rayopt.spec import Document
from rayopt.training.settings import TrainSettings

if TYPE_CHECKING:
    from rayopt.engine import Desk
    from rayopt.records import Artifact
    from rayopt.runs.cache import Cache
    from rayopt.work import Bench

BUDGET = ("memory", "budget")


class Job(course.CourseSettings, JobSettings):
    """The fields of a `train` job, with `memory: {budget: 8GiB}`. verify: also take the planned step and measure it;
    timed: time the candidates, where False only counts their work."""

    model: ModelSettings
    data: DataSettings
    metric: str = "auto"
    loss: str = "auto"
    verify: bool = True
    timed: bool = True


def check(job: Job, document: Document) -> list[Fault]:
    """Faults of model, data and budget that show without loading anything."""
    from rayopt.memory.settings import budget_bytes

    faults = model_settings.check(job.model, document) + data_settings.check(job.data, document)
    if job.model.onnx is not None:
        remedy = "give a `factory:` that makes a torch.nn.Module"
        faults.append(document.fault(("model", "onnx"), "an ONNX file cannot be trained", remedy))
    if job.memory is None:
        faults.append(document.fault((), "names no budget", "add `memory: {budget: 8GiB}`, or give --budget"))
    else:
        try:
            budget_bytes(job.memory.budget, document.place(BUDGET))
        except InputError as error:
            faults += error.faults
    return faults + course.check_loss(job.loss, job, document) + course.check(job, document)


@dataclass(frozen=True)
class Planning:
    """A checked memory job with its model and data; `place` is where the budget was said."""

    job: dict[str, Any]
    bench: Bench
    model: Artifact
    fingerprint: str
    settings: TrainSettings
    workers: int
    place: str

    @cached_property
    def hash(self) -> str:
        from rayopt.records import digest

        return digest([self.job, self.fingerprint, self.bench.data.sha256, self.bench.code])

    def plan(self) -> dict[str, Any]:
        return {"job": self.job, "model": self.fingerprint}


def prepare(job: Job, document: Document, cache: Cache) -> Planning:
    """Loads data and model; raises InputError with the faults of both."""
    from rayopt.subject import load_bench

    bench, model, fingerprint = load_bench(job.model, job.data, job.metric, job.seed, document, cache)
    settings = course.settings_of(job)
    course.check_loaded(settings, len(bench.data["train"]), document)
    told = job.model_dump(mode="json")
    return Planning(told, bench, model, fingerprint, settings, course.least_workers(job), document.place(BUDGET))


def run(planning: Planning, desk: Desk) -> dict[str, Any]:
    """Plans and returns the summary; raises InputError with the floor where nothing fits."""
    from rayopt.measure.machine import machine
    from rayopt.memory.settings import budget_bytes
    from rayopt.memory.steps import steps_of
    from rayopt.memory.work import Workers, answer
    from rayopt.models.torch_model import from_artifact
    from rayopt.plugins import importable
    from rayopt.runs.files import write_json
    from rayopt.tasks import versions
    from rayopt.training.learner import objective_of
    from rayopt.training.seat import best_device
    from rayopt.training.source import labeled

    start, job, settings = time.perf_counter(), planning.job, planning.settings
    budget = settings.memory.budget if settings.memory is not None else 0
    objective = objective_of(job["loss"], settings.label_smoothing)
    with importable(planning.bench.source.folder):
        module = from_artifact(planning.model, planning.bench.source, planning.bench.seed)
        steps = steps_of(module, objective, labeled(planning.bench.data["train"]), settings, best_device())
        found = answer(
            steps, budget_bytes(budget, planning.place), planning.place,
            Workers(planning.workers, job["sharding"]), job["verify"], job["timed"],
        )  # fmt: skip
    summary = {
        "kind": "memory",
        "name": job["name"],
        "status": "done",
        "seconds": round(time.perf_counter() - start, 2),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "job_hash": planning.hash,
        "batch_size": settings.batch_size,
        "workers": planning.workers,
        "device": steps.device.type,
        **found.summary,
        "environment": {**machine(), "versions": versions()},
    }
    write_json(desk.folder.summary, summary)
    return summary
