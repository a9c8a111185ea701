"""One trial of a search of jobs: the job with the fields of a point, read, prepared and run in its own folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayopt.backend import InProcess, describe
from rayopt.engine import Desk
from rayopt.errors import InputError, did_you_mean
from rayopt.records import digest
from rayopt.runs.cache import Cache
from rayopt.runs.folder import RunFolder
from rayopt.search.goals import Aim
from rayopt.search.hosts import Measured, Outcome
from rayopt.search.space import Params
from rayopt.searching.inner import ReadJob, filled
from rayopt.spec import Document
from rayopt.tasks import versions
from rayopt.watch import Silent, logging_to
from rayopt.yamltext import dump

if TYPE_CHECKING:
    from rayopt.training.seat import Host

HERE = "inprocess"  # whatever machine that is


@dataclass(frozen=True)
class JobTrial:
    """Evaluates a point, wherever it is sent to: the job is read, prepared and run below `folder`."""

    inner: Document
    read_job: ReadJob
    aim: Aim
    folder: Path
    cache: Path
    has_log: bool
    early: str | None = None  # the metric by which it may be ended early
    open_host: Callable[[Mapping[str, float], str], Host] | None = None  # as a Desk has it

    def __call__(self, params: Params, measured: Measured) -> Outcome:
        """Never raises: what goes wrong with this point is its reason, what would with every point its faults."""
        told = _Told(measured)
        try:
            summary = self._run(params, told)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a job may raise anything
            return {"reason": _line(error)}
        if self.early and told.names and self.early not in told.names:
            problem = f"trials report {', '.join(sorted(told.names))} on the way, and no {self.early!r}"
            return {"faults": [["early_stop.metric", problem, did_you_mean(self.early, sorted(told.names))]]}
        try:
            value, metrics, reason = self.aim.read(summary)
        except InputError as error:
            return {"faults": [[one.place, one.problem, one.remedy] for one in error.faults]}
        return {"value": value, "metrics": metrics, "reason": reason, "stopped_at": told.stopped_at}

    def _run(self, params: Params, told: _Told) -> Mapping[str, Any]:
        document = filled(self.inner, params)
        kind, job = self.read_job(document)
        cache, folder = Cache(self.cache), RunFolder(self.folder / trial_id(params))
        prepared = kind.prepare(job, document, cache)
        folder.claim(prepared.hash, job.name, overwrite=True)
        try:
            done = _finished(folder, prepared.hash)
            if done is not None:
                return done
            identity = {"job_hash": prepared.hash, "kind": job.kind, "name": job.name, "versions": versions()}
            folder.write_plan(dump(document.data), {**identity, **prepared.plan()})
            desk = Desk(InProcess, HERE, cache, told, folder, open_host=self.open_host)
            with logging_to(folder.log) if self.has_log else contextlib.nullcontext():
                found: Mapping[str, Any] = kind.run(prepared, desk)
            return found
        finally:
            folder.release()
            cache.release()


class _Told(Silent):
    """Passes on what a job measures on the way, and remembers whether it was told to stop."""

    def __init__(self, measured: Measured) -> None:
        self._measured = measured
        self.stopped_at: int | None = None
        self.names: set[str] = set()

    def measured(self, step: int, metrics: Mapping[str, float], training: str = "") -> bool:
        if training:
            return False  # a teacher's losses are no promise of the student's
        self.names.update(metrics)
        if self.stopped_at is None and self._measured(step, metrics):
            self.stopped_at = step
        return self.stopped_at is not None


def trial_id(params: Params) -> str:
    return digest(dict(params))[:12]


def _finished(folder: RunFolder, job_hash: str) -> Mapping[str, Any] | None:
    """The summary of a trial that had ended before the search was cut off."""
    try:
        summary = folder.read_summary()
        owner = folder.owner()
    except InputError:
        return None
    return summary if summary["status"] == "done" and owner == job_hash else None


def _line(error: BaseException) -> str:
    if isinstance(error, InputError):
        return str(error).replace("\n", "; ")
    return describe(error)
