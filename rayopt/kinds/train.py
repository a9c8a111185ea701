"""The kind `train`: a model and data in; a trained model out, measured, however often it was interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rayopt import course
from rayopt.data import settings as data_settings
from rayopt.data.settings import DataSettings
from rayopt.errors import Fault
from rayopt.kinds import JobSettings
from rayopt.models import settings as model_settings
from rayopt.models.settings import ModelSettings
from rayopt.spec import Document
from rayopt.subject import check_metric

if TYPE_CHECKING:
    from rayopt.engine import Desk
    from rayopt.fitting import Training
    from rayopt.runs.cache import Cache


class Job(course.CourseSettings, JobSettings):
    """The fields of a `train` job: model and data, and those of the training's course.

    loss: `auto` is the task's own, else `package.module:function`, called `(outputs, targets)` with tensors.
    """

    model: ModelSettings
    data: DataSettings
    metric: str = "auto"
    loss: str = "auto"


def check(job: Job, document: Document) -> list[Fault]:
    """Faults of model, data and metric that show without loading anything."""
    faults = model_settings.check(job.model, document) + data_settings.check(job.data, document)
    if job.model.onnx is not None:
        remedy = "give a `factory:` that makes a torch.nn.Module"
        faults.append(document.fault(("model", "onnx"), "an ONNX file cannot be trained", remedy))
    faults += course.check_loss(job.loss, job, document)
    return faults + check_metric(job.metric, document) + course.check(job, document)


def prepare(job: Job, document: Document, cache: Cache) -> Training:
    """Loads data and model and checks the course; raises InputError with the faults of all."""
    from rayopt.fitting import Place, Training
    from rayopt.subject import load_bench

    bench, model, fingerprint = load_bench(job.model, job.data, job.metric, job.seed, document, cache)
    settings = course.settings_of(job)
    course.check_loaded(settings, len(bench.data["train"]), document)
    place = Place(course.workers_of(job), job.resources, job.sharding)
    return Training(job.model_dump(mode="json"), bench, model, fingerprint, settings, place, job.loss)


def run(training: Training, desk: Desk) -> dict[str, Any]:
    """Trains, measures what comes out, and returns the summary; raises WorkError where the training fails."""
    from rayopt.fitting import Fitting

    return Fitting(training, desk).run()
