"""A kind of job for tests of searches: a bowl over `loss`, that reports on its way and can fail as it is told to."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from rayopt.errors import Fault
from rayopt.kinds import JobSettings
from rayopt.records import digest
from rayopt.runs.files import write_json
from rayopt.spec import Document, Settings


class Loss(Settings):
    temperature: float = Field(1.0, gt=0)
    alpha: float = Field(0.5, ge=0, le=1)


class Job(JobSettings):
    loss: Loss = Loss()
    width: int = Field(8, ge=1)
    epochs: int = Field(3, ge=1)
    epoch_s: float = 0.0
    fail: str = ""
    nothing: bool = False


@dataclass(frozen=True)
class Bowl:
    job: Job

    @property
    def hash(self) -> str:
        return digest(self.job.model_dump(mode="json"))

    def plan(self) -> dict[str, Any]:
        return {"job": self.job.model_dump(mode="json")}


def check(job: Job, document: Document) -> list[Fault]:
    return [document.fault(("width",), "13 brings bad luck", "take another")] if job.width == 13 else []


def prepare(job: Job, document: Document, cache: Any) -> Bowl:
    return Bowl(job)


def run(bowl: Bowl, desk: Any) -> dict[str, Any]:
    job = bowl.job
    if job.fail == "die":
        os._exit(3)
    if job.fail == "hang":
        time.sleep(3600)  # until the search's deadline
    if job.fail:
        raise ValueError(job.fail)
    best = 1 - (job.loss.temperature - 3) ** 2 / 50 - (job.loss.alpha - 0.3) ** 2
    curve: list[float] = []
    for epoch in range(1, job.epochs + 1):
        time.sleep(job.epoch_s)
        curve.append(best * (1 - 0.5**epoch))
        if desk.watcher.measured(epoch, {"accuracy": curve[-1], "loss": 1 - curve[-1]}):
            break
    summary = {
        "kind": "bowl.kind",
        "name": job.name,
        "status": "done",
        "metrics": {"accuracy": float("nan") if job.nothing else curve[-1]},
        "latency_ms": {"1": job.width / 10},
        "recommended": None,
        "epochs": len(curve),
    }
    write_json(desk.folder.summary, {**summary, "metrics": None if job.nothing else summary["metrics"]})
    return summary
