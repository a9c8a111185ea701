"""The kind `distill`: a student that learns from teachers, beside the same student that learns alone."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from rayopt import course
from rayopt.data import settings as data_settings
from rayopt.data.settings import DataSettings
from rayopt.errors import Fault, InputError, StepError, did_you_mean
from rayopt.kinds import JobSettings
from rayopt.models import settings as model_settings
from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.spec import Document
from rayopt.subject import BY_TASK, check_metric, collect, metric_faults
from rayopt.training.distill_settings import LossSettings, TeacherSettings, ViewSettings
from rayopt.yamltext import Location

if TYPE_CHECKING:
    from rayopt.data.dataset import Dataset
    from rayopt.data.partial import Partial
    from rayopt.distilling import Distillation
    from rayopt.engine import Desk
    from rayopt.runs.cache import Cache
    from rayopt.teachers import Found

ARGS = {"decoupled": ("target", "others"), "relational": ("distance", "angle")}


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


class Job(course.CourseSettings, JobSettings):
    """The fields of a `distill` job, and those of the training's course; `teacher` is one or a list.

    Rows of `data` whose target is `missing` (or NaN, or empty) have no label; `unlabeled` are more such rows. Both
    train. `test` are rows to report on, where they are not to be split off. views: `auto` are small shifts of images,
    and none of anything else. alone: trains the student without a teacher too, to see what the teacher is good for.
    """

    student: ModelSettings
    teacher: Annotated[list[TeacherSettings], BeforeValidator(_as_list), Field(min_length=1, max_length=16)]
    data: DataSettings
    unlabeled: DataSettings | None = None
    test: DataSettings | None = None
    missing: int | float | str | None = None
    loss: LossSettings = Field(default_factory=LossSettings)
    views: ViewSettings | Literal["auto", "none"] = "auto"
    metric: str = "auto"
    alone: bool = True
    # A student goes on getting better for longer than one that is trained on labels (Beyer et al., 2022, section 4).
    epochs: int = Field(40, ge=1, le=100_000)
    batch_size: int = Field(64, ge=1)
    keep: Literal["best", "last"] = "last"


def check(job: Job, document: Document) -> list[Fault]:
    """Faults of models, data and loss that show without loading anything."""
    from rayopt import teachers

    faults = model_settings.check(job.student, document, ("student",))
    if job.student.onnx is not None:
        remedy = "give a `factory:`; a teacher may be an ONNX file"
        faults.append(document.fault(("student", "onnx"), "an ONNX file cannot be trained", remedy))
    for index, teacher in enumerate(job.teacher):
        faults += teachers.check(teacher, document, _at(index, document))
    for key in ("data", "unlabeled", "test"):
        settings = getattr(job, key)
        if settings is not None:
            wanted = settings.model_copy(update={"task": "unlabeled"}) if key == "unlabeled" else settings
            faults += data_settings.check(wanted, document, (key,))
    for name in job.loss.args:
        if name not in ARGS.get(job.loss.use, ()):
            remedy = did_you_mean(name, ARGS.get(job.loss.use, ()))
            faults.append(document.fault(("loss", "args", name), f"{job.loss.use} has no argument {name!r}", remedy))
    return faults + check_metric(job.metric, document) + course.check(job, document)


def prepare(job: Job, document: Document, cache: Cache) -> Distillation:
    """Loads data, student and teachers, and sees that they go together; raises InputError with the faults of all."""
    from rayopt import teachers
    from rayopt.data import partial
    from rayopt.models.torch_model import check as built

    places = {key: document.place((key,)) for key in ("data", "unlabeled", "test")}
    given = partial.Sources(job.data, job.unlabeled, job.test, job.missing)
    rows = partial.load(given, document.folder, job.seed, places)
    source = model_settings.source_of(job.student, document, ("student",))
    faults = _label_faults(job, rows, document)
    faults += metric_faults(job.metric, source, rows.data, document)
    example, wanted = rows.x[:2], rows.data.output_shape
    module = collect(faults, lambda: built(source, job.seed, example, wanted))
    found: list[Found] = []
    for index, teacher in enumerate(job.teacher):
        at, layers = _at(index, document), _layers(job) if index == 0 else ()
        one = collect(faults, functools.partial(teachers.load, teacher, document, at, job.seed, layers))
        if one is not None:
            found.append(one)
            collect(faults, functools.partial(_check_teacher, one, rows, module))
    views = _views(job, rows.x)
    faults += _view_faults(views, rows.x, document)
    settings = course.settings_of(job)
    collect(faults, lambda: course.check_loaded(settings, len(rows.x), document))
    faults += _layer_faults(job, found, module, example, document) if not faults else []
    if faults or module is None:
        raise InputError(faults)
    return _distillation(job, rows, source, module, tuple(found), views)


def _distillation(
    job: Job, rows: Partial, source: ModelSource, module: Any, found: tuple[Found, ...], views: ViewSettings
) -> Distillation:
    from rayopt.distilling import Distillation
    from rayopt.fitting import Place
    from rayopt.models.torch_model import fingerprint, to_artifact
    from rayopt.tasks import sources
    from rayopt.work import Bench

    data = rows.data if rows.labeled_count else _graded_by(found[0], rows.data)
    metric = job.metric if job.metric != "auto" else BY_TASK[data.task]
    own = {one for one in (job.student.factory, metric if ":" in metric else None) if one}
    bench = Bench(data, source, metric, job.seed, code=sources(own, source.folder).sha256)
    place = Place(course.workers_of(job), job.resources, job.sharding)
    about = fingerprint(source, module, rows.x[:2])
    settings = course.settings_of(job)
    told = job.model_dump(mode="json")
    return Distillation(told, rows, bench, to_artifact(module), about, found, job.loss, views, settings, place)


def _graded_by(found: Found, data: Dataset) -> Dataset:
    """Data without labels with what a teacher says in their place."""
    import numpy as np

    from rayopt.measure.metrics import suited
    from rayopt.training.teacher import OUTPUTS

    said = {name: found.teacher.ask(np.asarray(split.x))[OUTPUTS] for name, split in data.splits.items()}
    is_classes = suited(said["test"])[0] == "agreement"
    targets = {name: one.argmax(axis=1) if is_classes else one for name, one in said.items()}
    splits = {name: replace(split, y=targets[name]) for name, split in data.splits.items()}
    classes = tuple(map(str, range(said["test"].shape[1]))) if is_classes else ()
    return replace(data, task="classification" if is_classes else "regression", classes=classes, splits=splits)


def run(distillation: Distillation, desk: Desk) -> dict[str, Any]:
    """Asks the teachers, trains the student, and returns the summary."""
    from rayopt.distilling import Distilling

    return Distilling(distillation, desk).run()


def _at(index: int, document: Document) -> Location:
    """Where a teacher stands in the job."""
    return ("teacher",) if isinstance(document.data.get("teacher"), dict) else ("teacher", index)


def _layers(job: Job) -> tuple[str, ...]:
    """The teacher's layers that are compared."""
    return tuple(dict.fromkeys(one.teacher for one in job.loss.features))


def _label_faults(job: Job, rows: Partial, document: Document) -> list[Fault]:
    """Whether there are labels where they are needed."""
    if rows.labeled_count:
        return []
    faults = []
    if job.loss.alpha:
        problem = f"{job.loss.alpha:g} of the loss is of labels, and no row of the data has one"
        faults.append(document.fault(("loss", "alpha"), problem, "set `alpha: 0`, or name the `target:`"))
    for index, teacher in enumerate(job.teacher):
        if teacher.train is not None:
            at = (*_at(index, document), "train")
            faults.append(document.fault(at, "the data has no labels to train on", "give a trained teacher"))
    return faults


def _layer_faults(job: Job, found: Sequence[Found], module: Any, example: Any, document: Document) -> list[Fault]:
    """Whether the layers that are compared are there, and can be."""
    from rayopt.training.feature_losses import FEATURE_LOSSES
    from rayopt.training.layers import heard

    faults = []
    for index, one in enumerate(job.loss.features):
        try:
            with heard(module, [one.student]) as seen:
                _run(module, example)
            theirs = found[0].teacher.ask(example)[one.teacher].shape[1:]
            FEATURE_LOSSES[one.use](seen[one.student].shape[1:], theirs)
        except StepError as error:
            faults.append(document.fault(("loss", "features", index), str(error), "name other layers"))
    return faults


def _check_teacher(found: Found, rows: Partial, module: Any) -> None:
    """Whether teacher and student say as much of a row."""
    from rayopt import teachers

    wanted, whose = rows.data.output_shape, "the data has"
    if wanted is None and module is not None:
        wanted, whose = _run(module, rows.x[:2]).shape[1:], "the student"
    teachers.check_answers(replace(found, teacher=replace(found.teacher, layers=())), rows.x[:2], wanted, whose)


def _views(job: Job, x: Any) -> ViewSettings:
    from rayopt.training.views import by_default

    if isinstance(job.views, ViewSettings):
        return job.views
    return by_default(x) if job.views == "auto" else ViewSettings()


def _view_faults(views: ViewSettings, x: Any, document: Document) -> list[Fault]:
    from rayopt.training.views import faults

    return faults(views, x, document.place(("views",)))


def _run(module: Any, x: Any) -> Any:
    from rayopt.models.torch_model import run

    return run(module, x)
