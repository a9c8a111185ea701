"""An optimisation from start to end: try every chain, measure, choose, grade what was chosen, and write it down."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any, Literal

from rayopt import tasks
from rayopt.compress.facts import Facts, facts_of
from rayopt.engine import Desk, Ended, Engine, Task
from rayopt.errors import InputError, WorkError
from rayopt.measure.metrics import find_metric
from rayopt.recipe.auto import Recipe
from rayopt.recipe.quantizing import CLEANED
from rayopt.results import Results
from rayopt.runs import journal
from rayopt.runs.files import write_json
from rayopt.study import Study, id_of, name_of
from rayopt.tree import Chain


class Optimization:
    """One run of a study; `run` may be called once.

    The baseline comes first: all others are compared with it. Then, in turns, candidates are made and evaluated, and
    what is worth it is timed, until there are no more candidates. At last the front is graded on the test split, once.
    """

    def __init__(self, study: Study, desk: Desk) -> None:
        self._study, self._desk = study, desk
        self._tasks = tasks.Tasks(study.bench, study.model_hash, desk.where, study.limits)
        self._engine = Engine(desk.open_backend, desk.cache, tasks.Codec(), desk.watcher, study.bench, study.bench.code)
        self._engine.values[tasks.MODEL] = study.model
        metric = find_metric(study.bench.metric, study.bench.source.folder, "metric")
        self._results = Results(study, metric, self._engine.values)
        self._next: Literal["make", "time", "grade", "end"] = "make"
        self._planned: set[str] = set()  # steps
        self._proposed: dict[str, str] = {}  # chain ids by the key of their proposal
        self._facts: dict[str, Facts] = {}  # by the id of the model that they are of
        self._start = time.monotonic()
        self._smallest = math.inf
        lines = journal.read(desk.folder.outcomes)
        self._journaled = {line["id"]: line for line in lines if {"id", "status", "sha256"} <= set(line)}

    def run(self) -> dict[str, Any]:
        """Everything; the summary is written however the run ends."""
        start = time.perf_counter()
        try:
            search = self._study.search
            seconds = 60 * search.budget.minutes if search else None
            first = _always(self._making([self._study.baseline]))
            self._engine.run(first, self._on_end, self._grow, seconds)
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

    def _making(self, chains: Iterable[Chain]) -> list[Task]:
        """The steps of chains that are not planned yet, and the evaluation of what they give."""
        chains = list(chains)
        steps = self._tasks.steps(chains, self._study.original.last or tasks.MODEL)
        new = [task for task in steps if task.node.id not in self._planned]
        self._planned.update(task.node.id for task in new)
        base = self._results.base
        return [
            *new,
            *(self._tasks.evaluate(id_of(chain), "selection", base, name_of(chain), chain.last) for chain in chains),
        ]

    def _grow(self) -> list[Task]:
        """What is next once nothing is left to do; nothing at all where there is no baseline to compare with."""
        if self._results.base not in self._results.evaluated():
            return []
        more: list[Task] = []
        while not more and self._next != "end":
            more = {"make": self._make, "time": self._time, "grade": self._grade}[self._next]()
        return more

    def _make(self) -> list[Task]:
        chains = self._results.add(self._propose())
        self._next = "time" if chains or self._results.to_time() else "grade"
        return self._making(chains)

    def _time(self) -> list[Task]:
        results = self._results
        results.find_twins()
        wanted = results.to_time()
        untimed = set(results.evaluated()) - {*wanted, *results.probes, results.base}
        self._journal([id for id in results.chains if id in untimed])
        self._next = "make"
        return [self._tasks.time(id, results.base, self._study.timing, name_of(results.chains[id])) for id in wanted]

    def _grade(self) -> list[Task]:
        results = self._results
        results.choose()
        self._next = "end"
        graded = dict.fromkeys([results.base, *(candidate.id for candidate in results.front)])
        return _always(
            self._tasks.evaluate(id, "test", results.base, name_of(results.chains[id]), None) for id in graded
        )

    def _propose(self) -> list[Chain]:
        """The candidates of the job's steps, or what the recipe proposes after all that it has seen."""
        search = self._study.search
        if search is None:
            return list(self._study.candidates) if len(self._results.chains) == 1 else []
        recipe = self._recipe(search.trainable)
        known = {key: tried for key, id in self._proposed.items() if (tried := self._results.tried(id))}
        proposals = recipe.next(known)
        self._results.stopped = recipe.stopped(known)
        left = search.budget.trials - len(self._proposed) + len(self._results.probes)
        if proposals and time.monotonic() - self._start > 60 * search.budget.minutes:
            left = 0
        if len(proposals) > left:
            self._results.stopped.append(f"the budget is spent: {len(proposals) - left} more candidates were not tried")
        chains = []
        for proposal in proposals[: max(0, left)]:
            chain = search.read(proposal.steps)
            self._proposed[proposal.key] = id_of(chain)
            if proposal.probe:
                self._results.probes.add(id_of(chain))
            self._results.why.setdefault(id_of(chain), proposal.why)
            chains.append(chain)
        return chains

    def _recipe(self, trainable: bool) -> Recipe:
        generated = self._study.bench.data.generated
        cleaned = self._proposed.get(CLEANED, self._results.base)  # the graph that the quantisers are given
        id = cleaned if cleaned in self._results.evaluated() else self._results.base
        if id not in self._facts:  # they take a while for a large model
            self._facts[id] = facts_of(self._results.artifact(id), trainable, generated)
        return Recipe(self._facts[id], self._study.rules.max_drop)

    def _on_end(self, ended: Ended) -> None:
        self._results.ended[ended.id] = ended
        id, _, what = ended.id.rpartition(":")
        if what == "selection":
            self._tell(id, ended.status)
        if what == "time" or (what == "selection" and ended.status != "done"):
            self._journal([id])

    def _tell(self, id: str, status: str) -> None:
        """A word to the watcher of each candidate, with the smallest so far that keeps within the accuracy budget."""
        if status == "done" and not self._results.is_over_budget(id):
            self._smallest = min(self._smallest, self._results.artifact(id).size_bytes)
        best = {"size_bytes": self._smallest} if self._smallest < math.inf else {}
        self._desk.watcher.candidate(id, status, best)

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


def _always(tasks: Iterable[Task]) -> list[Task]:
    """Tasks that are carried out even when the time for candidates is up."""
    return [replace(task, node=replace(task.node, always=True)) for task in tasks]
