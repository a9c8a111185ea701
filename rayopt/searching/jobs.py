"""A search of whole jobs from start to end: each trial is the job with other fields, run in a folder of its own."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from rayopt.engine import Desk
from rayopt.errors import RayoptError, WorkError, input_error
from rayopt.measure.machine import machine
from rayopt.records import digest
from rayopt.runs import journal
from rayopt.runs.cache import Cache
from rayopt.runs.files import write_bytes, write_json
from rayopt.runs.folder import RunFolder
from rayopt.search.goals import Aim
from rayopt.search.history import History, Observation, WarmStart
from rayopt.search.hosts import Flight, InTurn
from rayopt.search.importance import importance
from rayopt.search.space import Params, Space
from rayopt.search.warmth import warmed
from rayopt.searching.inner import ReadJob, filled, first_point, inner_document, team_of
from rayopt.searching.proposing import aim_of, asking_of, early_of
from rayopt.searching.told import so_far
from rayopt.searching.trial import JobTrial, trial_id
from rayopt.spec import Document
from rayopt.tasks import versions

log = logging.getLogger("rayopt")


def prepare(job: Any, document: Document, cache: Cache, read_job: ReadJob) -> JobSearch:
    """Prepares the searched job with the middle of the space, and reads the run to start from; raises InputError."""
    space = Space.from_settings(job.space)
    inner = inner_document(job.job, document)
    given = job.model_dump(mode="json")
    about = aim_of(given).about()
    warm = warmed(job.warm_start, document.folder, space, about, document.place(("warm_start",)))
    middle = filled(inner, first_point(space))
    kind, checked = read_job(middle)
    return JobSearch(given, inner, kind.prepare(checked, middle, cache).hash, read_job, space, warm)


@dataclass(frozen=True)
class JobSearch:
    """A checked search of a job: `inner` is that job, `read_job` how it is read once fields are replaced."""

    job: dict[str, Any]
    inner: Document
    inner_hash: str
    read_job: ReadJob
    space: Space
    warm: WarmStart

    @cached_property
    def hash(self) -> str:
        return digest([self.job, self.inner.data, self.inner_hash])

    @cached_property
    def aim(self) -> Aim:
        return aim_of(self.job)

    def plan(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "inner": self.inner.data,
            "metric": self.aim.goals[0].metric,
            "warm_start": {"observations": len(self.warm.observations), "left_out": list(self.warm.left_out)},
        }


class Trials:
    """One run of a search of jobs; `run` may be called once."""

    def __init__(self, search: JobSearch, desk: Desk) -> None:
        self._search, self._desk = search, desk
        self._start = time.perf_counter()
        history = History(desk.folder.observations, search.space)
        history.begin(search.aim.about())
        self._asking = asking_of(search.job, search.space, history, search.aim, search.warm)
        self._known = {line.get("id") for line in journal.read(desk.folder.outcomes)}
        self._best: float | None = None

    def run(self) -> dict[str, Any]:
        """Everything; the summary is written however the search ends. Raises WorkError where every trial failed."""
        for one in self._asking.observations:  # of a run that was cut off
            self._tell(one, cached=True)
        self._desk.watcher.planned(self._asking.count)
        for line in self._search.warm.left_out:
            self._desk.watcher.note(f"warm start without {line}")
        try:
            if self._asking.is_open:
                self._fly()
            if not self._asking.observations:
                raise self._asking.nothing()
        except KeyboardInterrupt:
            self._write("interrupted")
            raise
        except RayoptError as error:
            self._write("failed", str(error))
            raise
        seen = self._asking.observations
        if self._search.aim.best(seen) is None:
            reason = self._search.aim.hopeless(seen)
            self._write("failed", reason)
            raise WorkError(reason)
        return self._write("done")

    def _fly(self) -> None:
        desk, search = self._desk, self._search
        job, opened = search.job, time.perf_counter()
        if desk.open_trials is None and job["deadline_s"] is not None:
            log.warning(
                "deadline_s is not kept: a trial in this process cannot be ended; leave --address inprocess out"
            )
        team = team_of(search.inner, search.space, search.read_job)
        if team.workers > 1 and desk.open_host is None:
            raise input_error("workers", f"{team.workers} workers need Ray", "leave `--address inprocess` out")
        host = desk.open_trials(job["deadline_s"]) if desk.open_trials else InTurn()
        desk.watcher.backend_started(host.name, None, time.perf_counter() - opened)
        early = early_of(job, search.aim)
        evaluate = JobTrial(
            search.inner,
            search.read_job,
            search.aim,
            desk.folder.trials.resolve(),
            desk.cache.folder.resolve(),
            desk.open_trials is not None,
            early.metric if early else None,
            desk.open_host,
        )
        flight = Flight(self._asking, evaluate, job["parallel"], self, early, team, name=job["name"], id_of=trial_id)
        try:
            host.run(flight)
        finally:
            host.close()
        if flight.error is not None:
            raise flight.error

    def trial_started(self, params: Params) -> None:
        self._desk.watcher.started(trial_id(params), _named(params))

    def trial_reported(self, params: Params, step: int, value: float) -> None:
        self._desk.watcher.note(f"{_named(params)}: {value:.6g} at step {step}")

    def trial_ended(self, observation: Observation) -> None:
        self._tell(observation, cached=False)

    def _tell(self, one: Observation, cached: bool) -> None:
        """A line of the journal of outcomes, and a word to the watcher."""
        trial = self._trial(one)
        if trial["id"] not in self._known:
            self._known.add(trial["id"])
            journal.append(self._desk.folder.outcomes, trial)
        aim, goal = self._search.aim, self._search.aim.goals[0]
        if aim.allows(one) and (self._best is None or (one.value or 0.0) > self._best):
            self._best = one.value
        shown = "no value" if trial["score"] is None else f"{goal.metric} {trial['score']:.4g}"
        best = None if self._best is None else goal.sign * self._best
        status = "failed" if one.failed else "done"
        said = f"{_named(one.params)}: {shown}{so_far(best, None if cached else self._left_s())}"
        best_so_far = {} if self._best is None else {goal.metric: goal.sign * self._best}
        self._desk.watcher.candidate(trial["id"], status, best_so_far)
        self._desk.watcher.ended(trial["id"], said, status, str(trial["reason"]), cached)

    def _left_s(self) -> float | None:
        """About how long the trials take that are left, as those so far did; None where none is."""
        seen = self._asking.observations
        left = self._asking.count - len(seen)
        at_once = self._search.job["parallel"] if self._desk.open_trials else 1
        mean_s = statistics.fmean(one.cost_s for one in seen)
        return math.ceil(left / at_once) * mean_s if left > 0 else None

    def _trial(self, one: Observation) -> dict[str, Any]:
        aim = self._search.aim
        stopped = one.stopped_at is not None
        status = "failed" if one.failed else "stopped" if stopped else "done"
        return {
            "id": trial_id(one.params),
            "params": dict(one.params),
            "score": None if one.value is None or one.failed else aim.goals[0].sign * one.value,
            "metrics": dict(one.metrics),
            "allowed": aim.allows(one),
            "seconds": round(one.cost_s, 3),
            "status": status,
            "reason": f"stopped at step {one.stopped_at}" if stopped else one.reason,
        }

    def _write(self, status: str, reason: str | None = None) -> dict[str, Any]:
        """The tables and the summary; folders of trials that nobody needs lose their models."""
        search, folder, seen = self._search, self._desk.folder, self._asking.observations
        aim, trials = search.aim, self._ranked()
        best = trials[0] if trials and trials[0]["rank"] == 1 else None
        front = [trial_id(seen[index].params) for index in aim.front(seen)] if len(aim.goals) > 1 else []
        volume = aim.hypervolume(seen)
        summary = {
            "kind": "search",
            "name": search.job["name"],
            "status": status,
            "reason": reason,
            "seconds": round(time.perf_counter() - self._start, 2),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "job_hash": search.hash,
            "strategy": search.job["strategy"],
            "searched": search.inner.data.get("kind"),
            "metric": aim.goals[0].metric,
            "direction": aim.goals[0].direction,
            "objectives": [goal.model_dump() for goal in aim.goals],
            "constraints": {name: bound.model_dump(exclude_none=True) for name, bound in aim.bounds.items()},
            "best_params": best["params"] if best else None,
            "best_score": best["score"] if best else None,
            "best_std": None,
            "front": front,
            "hypervolume": None if volume is None else {"value": volume[0], "above": volume[1]},
            "importance": importance(search.space, seen) if status == "done" else {},
            "stopped": self._asking.over,
            "warm_start": len(search.warm.observations),
            "trials": trials,
            "path": f"trials/{best['id']}" if best else None,
            "environment": {**machine(), "versions": versions()},
        }
        self._write_tables(trials)
        if status == "done":
            self._forget_models({best["id"] if best else "", *front})
        write_json(folder.summary, summary)
        return summary

    def _ranked(self) -> list[dict[str, Any]]:
        """All trials, those that are allowed first and best first, each with when it came."""
        rows = [{**self._trial(one), "number": number} for number, one in enumerate(self._asking.observations, 1)]
        sign = self._search.aim.goals[0].sign
        allowed = sorted((row for row in rows if row["allowed"]), key=lambda row: -sign * row["score"])
        others = [{**row, "rank": None} for row in rows if not row["allowed"]]
        return [*({**row, "rank": rank} for rank, row in enumerate(allowed, 1)), *others]

    def _write_tables(self, trials: Sequence[Mapping[str, Any]]) -> None:
        import pandas

        rows = [
            {
                "number": one["number"],
                "id": one["id"],
                "rank": one["rank"],
                "score": one["score"],
                "seconds": one["seconds"],
                "status": one["status"],
                "reason": one["reason"],
                **{f"param_{name}": _cell(value) for name, value in one["params"].items()},
                **{f"metric_{name}": value for name, value in one["metrics"].items()},
            }
            for one in trials
        ]
        table = pandas.DataFrame(rows).convert_dtypes()
        for name in table.columns[[str(kind) == "object" for kind in table.dtypes]]:
            table[name] = table[name].astype("string")
        write_bytes(self._desk.folder.trials_table, table.to_csv(index=False).encode())
        write_bytes(self._desk.folder.trials_columns, table.to_parquet(index=False))

    def _forget_models(self, wanted: set[str]) -> None:
        """The cache still has what the others' models are made again from."""
        for trial in self._desk.folder.trials.iterdir() if self._desk.folder.trials.is_dir() else ():
            if trial.name not in wanted:
                RunFolder(trial).keep_artifacts([])


def _named(params: Params) -> str:
    shown = (f"{value:.6g}" if isinstance(value, float) else str(value) for value in params.values())
    return ", ".join(f"{name}={value}" for name, value in zip(params, shown, strict=True))


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | str | bool) else str(value)
