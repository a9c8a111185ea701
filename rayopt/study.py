"""What an optimisation is about: the checked job with its data and model loaded, what to try, and the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from rayopt.data.rows import shape_of
from rayopt.measure.choose import Objective
from rayopt.recipe.proposals import Budget
from rayopt.records import Artifact, digest
from rayopt.tasks import MODEL, Limits
from rayopt.tree import Chain
from rayopt.work import Bench, Timing

BudgetBy = Literal["estimate", "likely", "bound"]


@dataclass(frozen=True)
class Rules:
    """What may be recommended, what is best, and which files stay.

    Held against the accuracy budget is the estimate of the drop, what it is likely (9 to 1) not to exceed, or the upper
    bound of its 95 % interval.
    """

    max_drop: float
    objective: Objective
    keep: Literal["front", "all"]
    budget_by: BudgetBy = "likely"


@dataclass(frozen=True)
class Search:
    """Candidates that are proposed as results come: the budget, and steps as a job would write them made a chain."""

    budget: Budget
    read: Callable[[Sequence[Any]], Chain]
    trainable: bool


@dataclass(frozen=True)
class Study:
    """`original` is the chain of the teacher of recovery; `candidates` are those of the job's steps, if it has any."""

    job: dict[str, Any]
    bench: Bench
    model: Artifact
    model_hash: str
    original: Chain
    baseline: Chain
    candidates: tuple[Chain, ...]
    timing: Timing
    rules: Rules
    limits: Limits
    search: Search | None = None

    @cached_property
    def hash(self) -> str:
        return digest([self.job, self.model_hash, self.bench.data.sha256])

    def plan(self) -> dict[str, Any]:
        """What is going to be done, with every default filled in."""
        data = self.bench.data
        return {
            "job": self.job,
            "metric": self.bench.metric,
            "model_sha256": self.model.sha256,
            "data": {
                "sha256": data.sha256,
                "task": data.task,
                "classes": list(data.classes),
                "shape": shape_of(data["train"].x),
                "rows": {name: len(split) for name, split in data.splits.items()},
                "generated": data.generated,
            },
            "baseline": {"id": id_of(self.baseline), "steps": list(self.baseline.labels)},
            "candidates": [{"id": id_of(chain), "steps": list(chain.labels)} for chain in self.candidates],
        }


def id_of(chain: Chain) -> str:
    return chain.last or MODEL


def name_of(chain: Chain) -> str:
    return " > ".join(chain.labels) or MODEL
