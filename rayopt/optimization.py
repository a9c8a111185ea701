"""An optimisation from start to end: try every chain, measure, choose, grade what was chosen, and write it down."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rayopt import tasks
from rayopt.engine import Desk, Ended, Engine, Task
from rayopt.errors import InputError, WorkError
from rayopt.results import Results, Study, name_of
from rayopt.runs import journal
from rayopt.runs.files import write_json
from rayopt.work import find_metric


class Optimization:
    """One run of a study; `run` may be called once."""

    def __init__(self, study: Study, desk: Desk) -> None:
        self._study, self._desk = study, desk
        self._tasks = tasks.Tasks(study.bench, study.model_hash, desk.where)
        self._engine = Engine(desk.open_backend, desk.cache, tasks.Codec(), desk.watcher, study.bench, study.bench.code)
        self._engine.values[tasks.MODEL] = study.model
        metric = find_metric(study.bench.metric, study.bench.source.folder, "metric")
        self._results = Results(study, metric, self._engine.values)
        self._stage = 0
        lines = journal.read(desk.folder.outcomes)
        self._journaled = {line["id"]: line for line in lines if {"id", "status", "sha256"} <= set(line)}

    def run(self) -> dict[str, Any]:
        """Everything; the summary is written however the run ends."""
        start = time.perf_counter()
        try:
            self._engine.run(self._first_tasks(), self._on_end, self._grow)
        except KeyboardInterrupt:
            self._engine.close()
            self._write("interrupted", time.perf_counter() - start)
            raise
        finally:
            self._engine.close()
        broken = self._results.failure(self._results.base)
        summary = self._write("failed" if broken else "done", time.perf_counter() - start)
        if broken:
            raise WorkError(f"the baseline cannot be made or measured: {broken.step}: {broken.reason}")
        return summary

    def _first_tasks(self) -> list[Task]:
        study = self._study
        chains = self._results.chains
        steps = self._tasks.steps(chains.values(), study.original.last or tasks.MODEL)
        return [
            *steps,
            *(self._tasks.evaluate(id, "selection", name_of(chain), chain.last) for id, chain in chains.items()),
        ]

    def _grow(self) -> list[Task]:
        """After the models are made, time those that differ; after that, grade the front on the test split, once."""
        self._stage += 1
        results = self._results
        if results.base not in results.evaluated():
            return []
        if self._stage == 1:
            results.find_twins()
            self._journal(results.twins)
            return [
                self._tasks.time(id, results.base, self._study.timing, name_of(results.chains[id]))
                for id in results.evaluated()
                if id not in results.twins
            ]
        if self._stage == 2:
            results.choose()
            graded = dict.fromkeys([results.base, *(candidate.id for candidate in results.front)])
            return [self._tasks.evaluate(id, "test", name_of(results.chains[id]), None) for id in graded]
        return []

    def _on_end(self, ended: Ended) -> None:
        self._results.ended[ended.id] = ended
        id, _, what = ended.id.rpartition(":")
        if what == "time" or (what == "selection" and ended.status != "done"):
            self._journal([id])

    def _journal(self, ids: Iterable[str]) -> None:
        """One line for each chain that ended, once over all runs of the job unless it ends otherwise."""
        for id in ids:
            outcome = asdict(self._results.outcome(id))
            before = self._journaled.get(id)
            if before is None or (before["status"], before["sha256"]) != (outcome["status"], outcome["sha256"]):
                journal.append(self._desk.folder.outcomes, outcome)
                self._journaled[id] = outcome

    def _write(self, status: str, seconds: float) -> dict[str, Any]:
        """The files that stay, then the summary that names them; what an earlier run has finished is not undone."""
        folder, results = self._desk.folder, self._results
        if status != "done" and self._was_done():
            return folder.read_summary()
        kept = results.kept()
        for id in kept:
            folder.write_artifact(id, results.artifact(id).files, results.certificate(id))
        environment = {**results.machine(), "timed_on": self._desk.where, "versions": tasks.versions()}
        summary = {**results.summary(status, seconds), "environment": environment}
        write_json(folder.summary, summary)
        folder.keep_artifacts(kept)
        return summary

    def _was_done(self) -> bool:
        try:
            before = self._desk.folder.read_summary()
        except InputError:
            return False
        return before["status"] == "done" and before.get("job_hash") == self._study.hash
