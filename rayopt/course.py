"""How a job says that something is trained: the settings of training and where it runs; and what can be wrong there."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rayopt.errors import Fault, InputError, did_you_mean
from rayopt.plugins import importable, locate
from rayopt.spec import Document, Settings
from rayopt.training.settings import TrainSettings
from rayopt.yamltext import Location

OPTIMIZERS = ("sgd", "adamw")


class WorkerRange(Settings):
    """As many workers as the cluster has room for, between two numbers."""

    min: int = Field(1, ge=1)
    max: int = Field(ge=1, le=4096)


class CourseSettings(TrainSettings):
    """The settings of training, and where it runs.

    workers: how many train together, each with a part of each batch; resources: what each asks for, one CPU where
    nothing is said, and as many threads compute. sharding: `ddp` gives each worker the whole model, `fsdp` a part.
    """

    workers: int | WorkerRange = 1
    resources: dict[str, float] = Field({})
    sharding: Literal["ddp", "fsdp"] = "ddp"


def check(job: CourseSettings, document: Document) -> list[Fault]:
    """Faults that show without loading data."""
    faults: list[Fault] = []
    use = job.optimizer.use
    if ":" in use:
        faults += located(use, ("optimizer", "use"), document)
    elif use not in OPTIMIZERS:
        remedy = did_you_mean(use, [*OPTIMIZERS, "package.module:factory"])
        faults.append(document.fault(("optimizer", "use"), f"unknown optimizer {use!r}", remedy))
    if isinstance(job.workers, int) and job.workers < 1:
        faults.append(document.fault(("workers",), f"{job.workers} workers train nothing", "give at least 1"))
    if isinstance(job.workers, WorkerRange) and job.workers.min > job.workers.max:
        faults.append(document.fault(("workers",), "`min` is more than `max`", "exchange them"))
    faults += [
        document.fault(("resources", name), f"{amount:g} is no amount", "give 0 or more")
        for name, amount in job.resources.items()
        if amount < 0
    ]
    if job.batch_size < least_workers(job):
        problem = f"{job.batch_size} rows cannot be shared among {least_workers(job)} workers"
        faults.append(document.fault(("batch_size",), problem, "give more rows, or fewer workers"))
    return faults


def check_loss(loss: str, settings: TrainSettings, document: Document) -> list[Fault]:
    """Faults of `loss:`, `auto` or a function of the user's own."""
    if loss == "auto":
        return []
    faults = located(loss, ("loss",), document)
    if settings.label_smoothing:
        problem = "is of the task's own loss"
        faults.append(document.fault(("label_smoothing",), problem, "smooth the labels in your `loss:`"))
    return faults


def located(name: str, at: Location, document: Document) -> list[Fault]:
    """The faults of a `package.module:function` of the user's own."""
    try:
        with importable(document.folder):
            locate(name, document.place(at))
    except InputError as error:
        return list(error.faults)
    return []


def check_loaded(settings: TrainSettings, rows: int, document: Document) -> None:
    """Raises InputError where the data does not do for these settings."""
    if settings.batch_size > rows:
        problem = f"{settings.batch_size} rows make a batch, and there are {rows} to train on"
        raise InputError([document.fault(("batch_size",), problem, f"give {rows} at most")])


def settings_of(job: CourseSettings) -> TrainSettings:
    """The settings of training alone."""
    return TrainSettings.model_validate({name: getattr(job, name) for name in TrainSettings.model_fields})


def workers_of(job: CourseSettings) -> int | tuple[int, int]:
    return job.workers if isinstance(job.workers, int) else (job.workers.min, job.workers.max)


def least_workers(job: CourseSettings) -> int:
    return job.workers if isinstance(job.workers, int) else job.workers.min
