"""A distillation from start to end: ask the teachers, train the student with and without them, grade, write down."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rayopt import asking, fitting, shipping
from rayopt.asking import Asked, Questions
from rayopt.data.partial import MISSING, Partial
from rayopt.data.rows import shape_of
from rayopt.engine import Desk
from rayopt.errors import RayoptError, StepError, WorkError
from rayopt.fitting import Place, code_of
from rayopt.measure.machine import machine
from rayopt.measure.metrics import find_metric, score
from rayopt.models.onnx_model import MODEL
from rayopt.models.threads import torch_threads
from rayopt.plugins import importable
from rayopt.records import Artifact, Scores, digest
from rayopt.runs.files import write_json
from rayopt.tasks import versions
from rayopt.teachers import Found, check_answers
from rayopt.training.distill_settings import LossSettings, ViewSettings
from rayopt.training.distillation import DistillationObjective, Pair
from rayopt.training.learner import TaskObjective
from rayopt.training.loop import Trained, Work
from rayopt.training.order import steps_in
from rayopt.training.settings import TrainSettings
from rayopt.training.source import Arrays, hash_of, labeled
from rayopt.training.teacher import OUTPUTS, Teacher
from rayopt.training.views import ViewedRows, keeps_labels
from rayopt.work import Bench, evaluate

ALONE = "student alone"
STUDENT = "distilled"  # the training that the job is for


@dataclass(frozen=True)
class Distillation:
    """A checked job: its rows, its student as it is before training, and its teachers.

    The bench's data grades: where it has no labels of its own, those are what the first teacher says.
    """

    job: dict[str, Any]
    rows: Partial
    bench: Bench
    student: Artifact
    fingerprint: str
    teachers: tuple[Found, ...]
    loss: LossSettings
    views: ViewSettings
    settings: TrainSettings
    place: Place

    @property
    def alpha(self) -> float:
        """The share of the labels' own loss: none where nothing is said, for the teacher has seen what they say."""
        return self.loss.alpha or 0.0

    @cached_property
    def hash(self) -> str:
        taught = [[found.teacher.sha256, found.teacher.weight] for found in self.teachers]
        rows = hash_of(self.rows.x, self.rows.y)
        return digest([self.job, self.fingerprint, taught, self.bench.data.sha256, rows, self._code])

    @property
    def _code(self) -> list[str]:
        """Hashes of what the trainings use of the job's own."""
        metric = self.bench.metric
        taught = [(one.teacher.source, one.train) for one in self.teachers]
        pairs = [(self.bench.source, self.settings), *taught]
        return [code_of(source, metric, train) for source, train in pairs if source is not None and train is not None]

    @property
    def counts(self) -> dict[str, int]:
        """Rows by what they are for."""
        known, data = self.rows.labeled_count, self.rows.data
        return {
            "labeled": known,
            "unlabeled": len(self.rows.x) - known,
            **{name: len(data[name]) for name in ("selection", "test")},
        }

    def plan(self) -> dict[str, Any]:
        data = self.rows.data
        told = {"sha256": data.sha256, "task": data.task, "classes": list(data.classes), "rows": self.counts}
        return {
            "job": self.job,
            "metric": self.bench.metric,
            "model": self.fingerprint,
            "views": self.views.model_dump(mode="json"),
            "data": {**told, "shape": shape_of(self.rows.x)},
            "teachers": [found.teacher.name for found in self.teachers],
        }


class Distilling:
    """One run of a distillation; `run` may be called once."""

    def __init__(self, distillation: Distillation, desk: Desk) -> None:
        self._job, self._desk = distillation, desk

    def run(self) -> dict[str, Any]:
        """Everything; the summary is written however the run ends. Raises WorkError where it fails."""
        start = time.perf_counter()
        try:
            with importable(self._job.bench.source.folder):
                return self._write("done", start, told=self._found())
        except KeyboardInterrupt:
            self._write("interrupted", start)
            raise
        except RayoptError as error:
            self._write("failed", start, str(error))
            raise WorkError(str(error)) if isinstance(error, StepError) else error from error

    def _found(self) -> dict[str, Any]:
        """What the summary says of the models."""
        job, desk = self._job, self._desk
        teachers = self._taught()
        asked = asking.ask(Questions(teachers, job.rows.x, job.views, job.bench.seed), desk)
        beside, shipped = {}, {}
        if job.job["alone"] and job.rows.labeled_count:
            alone = self._train("alone", self._alone())
            shipped[ALONE] = shipping.ship(alone, job.bench, job.hash, desk)
            beside[ALONE] = {**shipped[ALONE], "metrics": shipping.figures(shipped[ALONE]["scores"])}
        trained = self._train(STUDENT, self._distilled(teachers, asked))
        own = shipping.ship(trained, job.bench, job.hash, desk)
        for number, teacher in enumerate(teachers, start=1):
            name = f"teacher {number}: {teacher.name}" if len(teachers) > 1 else f"teacher {teacher.name}"
            beside[name] = {"metrics": shipping.figures({"test": self._score(teacher)})}
        desk.folder.keep_artifacts([one["id"] for one in (own, *shipped.values())])
        return {
            **fitting.told_of(trained),
            **shipping.shown(own),
            "beside": {name: {key: one[key] for key in _SHOWN if key in one} for name, one in beside.items()},
            "gain": self._gain(own, shipped[ALONE]) if ALONE in shipped else None,
            "blocks_asked": asked.blocks_asked,
        }

    def _train(self, name: str, work: Work) -> Trained:
        folder = self._desk.folder.checkpoints / name
        return fitting.fit(work, self._job.place, self._desk, folder, name if name != STUDENT else "")

    def _taught(self) -> tuple[Teacher, ...]:
        """The teachers, those trained that are to be."""
        return tuple(
            found.teacher if found.train is None else self._teach(number, found, found.train)
            for number, found in enumerate(self._job.teachers)
        )

    def _teach(self, number: int, found: Found, settings: TrainSettings) -> Teacher:
        rows, source = labeled(self._job.rows.data["train"]), found.teacher.source
        if source is None:
            raise StepError(f"{found.place}: only a factory's model can be trained")
        work = self._work(rows, TaskObjective(settings.label_smoothing), settings, {"labels": self._labels})
        trained = self._train(f"teacher-{number}", replace(work, artifact=found.teacher.artifact, source=source))
        teacher = replace(found.teacher, artifact=trained.artifact)
        check_answers(replace(found, teacher=teacher), self._job.rows.x[:2], None, "")
        return teacher

    def _alone(self) -> Work:
        """The student on the labels alone, for as many steps as with the teacher."""
        job, settings = self._job, self._job.settings
        rows = labeled(job.rows.data["train"])
        steps = settings.epochs * steps_in(len(job.rows.x), settings.batch_size)
        steps = min(steps, settings.steps or steps)
        epochs = math.ceil(steps / steps_in(rows.count, settings.batch_size))
        settings = settings.model_copy(update={"epochs": epochs, "steps": steps})
        return self._work(rows, TaskObjective(settings.label_smoothing), settings, {"labels": self._labels})

    def _distilled(self, teachers: Sequence[Teacher], asked: Asked) -> Work:
        job, y = self._job, self._job.rows.y
        if y is None:  # nobody looks at them; their type says what kind of outputs is followed
            is_classes = job.bench.data.task == "classification"
            y = np.full(len(job.rows.x), MISSING if is_classes else np.nan, np.int64 if is_classes else np.float32)
        lost = None if keeps_labels(job.views) else float(MISSING) if y.dtype.kind == "i" else math.nan
        rows = ViewedRows(asked.x, y, job.views.count, lost)
        share = job.rows.labeled_share or 1.0
        smoothing = job.settings.label_smoothing
        objective = DistillationObjective(asked.answers, job.loss, job.alpha, share, self._pairs(asked), smoothing)
        about = {"job": job.hash, "teachers": [one.sha256 for one in teachers]}
        return self._work(rows, objective, job.settings, about)

    def _pairs(self, asked: Asked) -> list[Pair]:
        """The layers that are compared, with the shapes of their outputs."""
        from rayopt.models.torch_model import from_artifact, run
        from rayopt.training.layers import heard

        job, named = self._job, self._job.loss.features
        if not named:
            return []
        module = from_artifact(job.student, job.bench.source, job.bench.seed)
        with heard(module, {one.student for one in named}) as seen:
            run(module, job.rows.x[:2])
        known = asked.answers[0].stored
        return [Pair(one, seen[one.student].shape[1:], known[one.teacher].array.shape[1:]) for one in named]

    @property
    def _labels(self) -> str:
        """A hash of the rows that a training on labels alone sees: it is the same whatever else the job says."""
        train, selection = (self._job.rows.data[name] for name in ("train", "selection"))
        return hash_of(*(np.asarray(one) for split in (train, selection) for one in (split.x, split.y)))

    def _work(self, rows: Any, objective: Any, settings: TrainSettings, about: Mapping[str, Any]) -> Work:
        job, bench = self._job, self._job.bench
        selection = bench.data["selection"]
        chosen = None if selection.y is None else Arrays(np.asarray(selection.x), selection.y)
        about = {**about, "workers": job.place.workers}
        return Work(job.student, bench.source, rows, objective, settings, bench.seed, chosen, bench.metric, about)

    def _score(self, teacher: Teacher) -> Scores:
        """A teacher's scores on the test rows."""
        bench = self._job.bench
        test = labeled(bench.data["test"])
        with torch_threads(1):
            outputs = teacher.ask(test.x)[OUTPUTS]
        return score(find_metric(bench.metric, bench.source.folder, "metric"), bench.data.task, test.y, outputs)

    def _gain(self, own: Mapping[str, Any], alone: Mapping[str, Any]) -> dict[str, float] | None:
        """By how much the student is better with the teacher than alone, with the 95 % interval of the same rows."""
        folder = self._desk.folder.path
        both = [_onnx(folder / one["path"]) for one in (own, alone)]
        if both[0] is None or both[1] is None:
            return None
        found = evaluate(both[0], "test", self._job.bench, both[1])
        return {"value": -found.drop, "low": -found.drop_high, "high": -found.drop_low}

    def _write(
        self, status: str, start: float, reason: str | None = None, told: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        job = self._job
        summary = {
            "kind": "distill",
            "name": job.job["name"],
            "status": status,
            "reason": reason,
            "seconds": round(time.perf_counter() - start, 2),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "job_hash": job.hash,
            "task": job.rows.data.task,
            "metric": job.bench.metric.rpartition(":")[2],
            "graded_by": "labels" if job.rows.labeled_count else "the first teacher",
            "workers": job.place.workers,
            "rows": job.counts,
            "loss": {**job.loss.model_dump(mode="json"), "alpha": job.alpha},
            "views": job.views.model_dump(mode="json"),
            **(told or {}),
            "environment": {**machine(), "versions": versions()},
        }
        write_json(self._desk.folder.summary, summary)
        return summary


_SHOWN = ("metrics", "id", "path", "sha256", "size_bytes", "not_exported")


def _onnx(folder: Path) -> Artifact | None:
    """The ONNX model of an artifact's folder, None where it could not be exported."""
    path = folder / MODEL
    return Artifact("onnx", {MODEL: path.read_bytes()}) if path.is_file() else None
