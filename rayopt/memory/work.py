"""From settings to an answer: a plan that fits a budget, how its peak was predicted, and whether it is true."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from rayopt.memory.plan import Candidate, Plan, Space, find_plan
from rayopt.memory.predict import Predictor
from rayopt.memory.rehearsal import Precision, measured_bytes
from rayopt.memory.settings import StepSettings
from rayopt.memory.snapshot import Snapshot, snapshot
from rayopt.memory.steps import TrainingSteps

LIMIT_S = 20.0


@dataclass(frozen=True)
class Answer:
    """A plan and what explains it; `measured_bytes` is the allocator's truth, if it was asked for."""

    plan: Plan
    settings: StepSettings
    snapshot: Snapshot | None
    measured_bytes: int | None
    warnings: tuple[str, ...] = field(default=())

    @property
    def summary(self) -> dict[str, Any]:
        """As `summary.json` has it."""
        chosen, rows = self.plan.chosen, -(-self.settings.batch_size // self.settings.workers)
        return {
            "plan": told(chosen),
            "predicted_bytes": chosen.predicted_bytes,
            "budget_bytes": self.plan.budget_bytes,
            "measured_bytes": self.measured_bytes,
            "step_s": chosen.step_s,
            "timed": self.plan.measured,
            "batch_size": self.settings.batch_size,
            "workers": self.settings.workers,
            "samples_per_s": rows / chosen.step_s if chosen.step_s else None,
            "candidates": [
                {**told(one), "predicted_bytes": one.predicted_bytes, "step_s": one.step_s} for one in self.plan.fitting
            ],
            "memory": asdict(self.snapshot) if self.snapshot else None,
            "warnings": list(self.warnings),
        }


def answer(
    steps: TrainingSteps,
    settings: StepSettings,
    budget_bytes: int,
    place: str,
    verify: bool = True,
    timed: bool = True,
) -> Answer:
    """Plans a step within a budget; raises InputError at `place` with the floor where nothing fits."""
    predictor = Predictor(steps, steps.device)
    extra = gradient_bytes(steps) if settings.workers > 1 else 0
    plan = find_plan(predictor, space_of(settings), budget_bytes, place, LIMIT_S if timed else None, extra)
    chosen = plan.chosen
    known = predictor.known(chosen.variant)
    warnings = []
    taken = None
    if known.untraceable:
        warnings.append(f"the step cannot be traced ({known.untraceable}): predicted from two small batches that were run")
    else:
        taken = snapshot(predictor.trace(chosen.micro_batch, chosen.variant))
    truth = measured_bytes(steps, chosen.micro_batch, chosen.variant, steps.device) + extra if verify else None
    if truth is not None and truth > budget_bytes:
        warnings.append(f"the step took {truth:,} bytes, more than the budget")
    return Answer(plan, settings, taken, truth, tuple(warnings))


def space_of(settings: StepSettings) -> Space:
    """What is left to be planned."""
    asked = settings.precision
    precisions: tuple[Precision, ...] = ("fp32", "bf16") if asked == "auto" else (asked,)
    checkpointing = settings.activation_checkpointing
    return Space(
        -(-settings.batch_size // settings.workers),
        precisions,
        (False, True) if checkpointing == "auto" else (checkpointing,),
        micro_batch=settings.micro_batch,
    )


def gradient_bytes(steps: TrainingSteps) -> int:
    """What workers exchange: DDP keeps a copy of all gradients in buckets."""
    return sum(one.numel() * one.element_size() for one in steps.module.parameters() if one.requires_grad)


def told(one: Candidate) -> dict[str, Any]:
    """A candidate in the words of a training job."""
    return {
        "micro_batch": one.micro_batch,
        "accumulation": one.variant.accumulation,
        "activation_checkpointing": one.variant.checkpointing,
        "precision": one.variant.precision,
        "foreach": one.variant.foreach,
    }


