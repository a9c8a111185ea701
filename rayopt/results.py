"""What a study has found so far, and the rows, certificates and summary that are made of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from rayopt.certificates import probe
from rayopt.engine import Ended
from rayopt.measure.choose import Candidate, is_faster, pareto_front, recommend, verdict
from rayopt.measure.machine import machine
from rayopt.measure.metrics import Metric
from rayopt.plan import OUT_OF_BUDGET
from rayopt.recipe.proposals import Tried
from rayopt.records import Artifact, Latency, Outcome, Scores
from rayopt.study import BudgetBy, Study, id_of
from rayopt.tasks import versions
from rayopt.tree import Chain
from rayopt.work import Made

LIKELY = 1.2816  # standard errors: the normal distribution's 90 % point


@dataclass(frozen=True)
class Failure:
    """The step that ended a chain, and why."""

    step: str
    reason: str


class Results:
    """A view of the engine's values: models by id, `ID:selection`, `ID:time` and `ID:test`."""

    def __init__(self, study: Study, metric: Metric, values: Mapping[str, Any]) -> None:
        self._study, self._metric, self._values = study, metric, values
        self.chains = {id_of(study.baseline): study.baseline}
        self.base = id_of(study.baseline)
        self.ended: dict[str, Ended] = {}
        self.twins: dict[str, str] = {}
        self.front: list[Candidate] = []
        self._on_front: set[str] = set()
        self.why: dict[str, str] = {}
        self.stopped: list[str] = []
        self.probes: set[str] = set()
        self._chosen = False

    def add(self, chains: Iterable[Chain]) -> list[Chain]:
        """Takes up candidates; gives those that are new."""
        new = [chain for chain in chains if id_of(chain) not in self.chains]
        self.chains.update({id_of(chain): chain for chain in new})
        return new

    def evaluated(self) -> list[str]:
        return [id for id in self.chains if f"{id}:selection" in self._values]

    def timed(self) -> list[str]:
        """The ids with latencies; a twin has those of the file that it is the same as."""
        return [id for id in self.evaluated() if self._is_timed(id)]

    def _is_timed(self, id: str) -> bool:
        return f"{self.twins.get(id, id)}:time" in self._values

    def artifact(self, id: str) -> Artifact:
        value = self._values[id]
        return value.artifact if isinstance(value, Made) else value

    def failure(self, id: str) -> Failure | None:
        """Why a chain was not measured, None for one that was or that has not ended."""
        for task in (f"{id}:selection", f"{id}:time"):
            end = self.ended.get(task)
            if end is not None and end.status != "done":
                return Failure(self._step_name(end.because_of or end.id), end.reason)
        return None

    def find_twins(self) -> None:
        """Finds models with the same bytes as an earlier one: they need no timing, they cannot differ."""
        first: dict[str, str] = {}
        for id in self.evaluated():
            twin = first.setdefault(self.artifact(id).sha256, id)
            if twin != id:
                self.twins[id] = twin

    def to_time(self) -> list[str]:
        """The ids whose latencies are wanted: all that differ, of a search only what is within the accuracy budget."""
        searched = self._study.search is not None
        return [
            id
            for id in self.evaluated()
            if id not in self.twins
            and id not in self.probes
            and f"{id}:time" not in self.ended
            and (id == self.base or not searched or not self.is_over_budget(id))
        ]

    def choose(self) -> None:
        """Fills the front with the candidates that may be recommended and that no other beats in everything."""
        if self.base not in self.timed():
            return
        baseline = self._candidate(self.base)
        self._chosen = True
        others = [self._candidate(id) for id in self.timed() if id != self.base and id not in self.twins]
        self.front = pareto_front([one for one in others if not verdict(one, baseline, self._study.rules.max_drop)])
        self._on_front = {one.id for one in self.front}

    def choices(self) -> dict[str, str | None]:
        """The smallest, the fastest and the best balanced of the front, where there is such a one."""
        names: dict[str, Literal["size", "speed", "balanced"]] = {
            "smallest": "size", "fastest": "speed", "balanced": "balanced"
        }  # fmt: skip
        if not self.front:
            return dict.fromkeys(names)
        baseline = self._candidate(self.base)
        chosen = {name: recommend(self.front, baseline, objective) for name, objective in names.items()}
        return {name: one.id if one else None for name, one in chosen.items()}

    def tried(self, id: str) -> Tried | None:
        """What a recipe is told of a chain, None while it has not ended."""
        if self.failure(id):
            return Tried(ok=False)
        if f"{id}:selection" not in self._values:
            return None
        one, baseline = self._candidate(id), self._candidate(self.base)
        share = one.size_bytes / baseline.size_bytes
        faster = bool(one.ratios) and is_faster(one, baseline)
        slowest = max(one.ratios, default=1.0)
        cost = share * (slowest if faster or slowest > 1 else 1.0)
        return Tried(True, one.drop, share, cost, self._scores(id, "selection").divergence)

    def is_over_budget(self, id: str) -> bool:
        return self._candidate(id).drop > self._study.rules.max_drop + 1e-12

    def machine(self) -> dict[str, Any]:
        """The machine that the baseline was timed on; this one before that."""
        timed = self._values.get(f"{self.base}:time")
        return dict(timed.machine) if timed else machine()

    def kept(self) -> list[str]:
        """The ids whose files stay: the baseline, the front, and all that were measured where the job says so."""
        return [id for id in self.evaluated() if self._is_kept(id)]

    def _is_kept(self, id: str) -> bool:
        every = self._study.rules.keep == "all"
        return id not in self.probes and (every or id == self.base or id in self._on_front)

    def outcome(self, id: str) -> Outcome:
        """What became of one chain."""
        steps, seconds, failure = self.chains[id].labels, self._seconds(id), self.failure(id)
        if failure is not None:
            status: Literal["failed", "skipped"] = "skipped" if failure.reason == OUT_OF_BUDGET else "failed"
            return Outcome(id, steps, status, failed_step=failure.step, reason=failure.reason, seconds=seconds)
        artifact = self.artifact(id)
        return Outcome(
            id,
            steps,
            "done",
            sha256=artifact.sha256,
            size_bytes=artifact.size_bytes,
            selection=self._scores(id, "selection"),
            latency=self._latency(id),
            seconds=seconds,
            notes=self._notes(id),
        )

    def certificate(self, id: str) -> dict[str, Any]:
        """What is needed to make a model again and to check that it is the one that was measured."""
        artifact, rows = self.artifact(id), self._study.bench.data["selection"].x
        return {
            "id": id,
            "job_hash": self._study.hash,
            "steps": [
                {"method": step.method, "version": step.version, "params": dict(step.params)}
                for step in self.chains[id].steps
            ],
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in artifact.files.items()},
            "sha256": artifact.sha256,
            "size_bytes": artifact.size_bytes,
            "seed": self._study.bench.seed,
            "data_sha256": self._study.bench.data.sha256,
            "scores": {
                split: asdict(self._scores(id, split))
                for split in ("selection", "test")
                if f"{id}:{split}" in self._values
            },
            "notes": self._notes(id),
            "versions": versions(),
            "probe": probe(artifact, rows, self._study.bench.seed),
        }

    def summary(self, status: str, seconds: float) -> dict[str, Any]:
        """The run in one JSON document."""
        best = recommend(self.front, self._candidate(self.base), self._study.rules.objective) if self.front else None
        failures = {id: failure for id in self.chains if (failure := self.failure(id))}
        late = [id for id, failure in failures.items() if failure.reason == OUT_OF_BUDGET and id != self.base]
        broken = failures.get(self.base)
        return {
            "kind": "optimize",
            "name": self._study.job["name"],
            "status": status,
            "reason": f"{broken.step}: {broken.reason}" if broken else None,
            "seconds": round(seconds, 2),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "job_hash": self._study.hash,
            "task": self._study.bench.data.task,
            "metric": self._metric.name,
            "higher_is_better": self._metric.higher_is_better,
            "max_accuracy_drop": self._study.rules.max_drop,
            "objective": self._study.rules.objective,
            "baseline": self._row(self.base) if self.base in self.evaluated() else None,
            "recommended": self._row(best.id) if best else None,
            "choices": self.choices(),
            "caution": self._caution(best.id) if best else None,
            "stopped": [*self.stopped, *([f"time was up: {len(late)} candidates were not made"] if late else [])],
            "front": [self._row(candidate.id) for candidate in self.front],
            "candidates": [self._row(id) for id in self.evaluated() if id != self.base and id not in self.probes],
            "failed": [
                {"id": id, "steps": list(self.chains[id].labels), "step": failure.step, "reason": failure.reason}
                for id, failure in failures.items()
                if id not in late and id not in self.probes
            ],
        }

    def _caution(self, id: str) -> str | None:
        """What the test split says against a model that the selection split has chosen."""
        if f"{id}:test" not in self._values or f"{self.base}:test" not in self._values:
            return None
        drop = self._scores(id, "test").drop
        if drop <= self._study.rules.max_drop + 1e-12:
            return None
        return (
            f"on the test split, which had no say in the choice, {self._metric.name} is {drop:.4g} worse than the "
            f"baseline's: more than the budget of {self._study.rules.max_drop:g}"
        )

    def _row(self, id: str) -> dict[str, Any]:
        """One model; its accuracy is of the test split where it was graded, else of the selection split."""
        artifact, selection = self.artifact(id), self._scores(id, "selection")
        graded = f"{id}:test" in self._values
        shown = self._scores(id, "test") if graded else selection
        latency = self._latency(id)
        return {
            "id": id,
            "steps": list(self.chains[id].labels),
            "path": f"artifacts/{id}" if self._is_kept(id) else None,
            "size_bytes": artifact.size_bytes,
            "sha256": artifact.sha256,
            "accuracy": shown.value,
            "accuracy_low": shown.low,
            "accuracy_high": shown.high,
            "accuracy_n": shown.n,
            "accuracy_split": "test" if graded else "selection",
            "selection_accuracy": selection.value,
            "selection_accuracy_low": selection.low,
            "selection_accuracy_high": selection.high,
            "selection_accuracy_n": selection.n,
            "drop": selection.drop,
            "drop_low": selection.drop_low,
            "drop_high": selection.drop_high,
            "others": dict(shown.others),
            "latency_ms": {str(one.batch_size): one.latency_ms for one in latency},
            "latency_ratio": {str(one.batch_size): 1.0 if id == self.base else one.ratio for one in latency},
            "latency_ratio_low": {str(one.batch_size): one.ratio_low for one in latency},
            "latency_ratio_high": {str(one.batch_size): one.ratio_high for one in latency},
            "verdict": self._verdict(id),
            "twin_of": self.twins.get(id),
            "why": self.why.get(id),
            "seconds": self._seconds(id),
        }

    def _verdict(self, id: str) -> str:
        """Why a candidate is not on the front, or that it is."""
        if id == self.base:
            return "baseline"
        if id in self.twins:
            return f"the same file as {self.twins[id]}"
        if self.is_over_budget(id) and self._scores(id, "selection").drop <= self._study.rules.max_drop:
            return "perhaps over the accuracy budget"
        if not self._is_timed(id) or not self._is_timed(self.base):
            return "over the accuracy budget" if self.is_over_budget(id) else "not timed"
        if id in self._on_front:
            return "on the front"
        why = verdict(self._candidate(id), self._candidate(self.base), self._study.rules.max_drop)
        return why or ("beaten by another" if self._chosen else "not compared yet")

    def _candidate(self, id: str) -> Candidate:
        scores, latency = self._scores(id, "selection"), self._latency(id)
        steps = self.chains[id].steps
        return Candidate(
            id,
            self.artifact(id).size_bytes,
            0.0 if id == self.base else _judged(scores, self._study.rules.budget_by),
            tuple(one.ratio for one in latency),
            tuple(one.ratio_low for one in latency),
            tuple(one.ratio_high for one in latency),
            verified=not self._study.bench.data.generated or all(step.preserves for step in steps),
        )

    def _scores(self, id: str, split: str) -> Scores:
        scores: Scores = self._values[f"{id}:{split}"]
        return scores

    def _latency(self, id: str) -> tuple[Latency, ...]:
        timed = self._values.get(f"{self.twins.get(id, id)}:time")
        return timed.latency if timed else ()

    def _seconds(self, id: str) -> float:
        """How long the steps of a chain took to compute, shared ones included."""
        made = [self._values.get(step.id) for step in self.chains[id].steps]
        return round(sum(value.seconds for value in made if isinstance(value, Made)), 3)

    def _notes(self, id: str) -> dict[str, Any]:
        made = {step.label: self._values.get(step.id) for step in self.chains[id].steps}
        return {label: dict(value.artifact.notes) for label, value in made.items() if isinstance(value, Made)}

    def _step_name(self, task: str) -> str:
        """The step of a task as the job file would name it."""
        labels = {step.id: step.label for chain in self.chains.values() for step in chain.steps}
        return labels.get(task) or {"selection": "evaluate", "time": "time"}.get(task.rpartition(":")[2], task)


def _judged(scores: Scores, by: BudgetBy) -> float:
    """The drop that is held against the accuracy budget: many candidates are tried, and some look better by luck."""
    return {"estimate": scores.drop, "likely": scores.drop + LIKELY * scores.drop_error, "bound": scores.drop_high}[by]
