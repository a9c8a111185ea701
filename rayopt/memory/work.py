"""From a training's settings to an answer: a plan that fits a budget, how it was predicted, and whether it is true."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from rayopt.errors import InputError
from rayopt.memory.buckets import Bucketed
from rayopt.memory.plan import Candidate, Plan, Space, find_plan
from rayopt.memory.predict import Predictor
from rayopt.memory.rehearsal import Foreach, Variant, measured_bytes
from rayopt.memory.snapshot import Snapshot, snapshot
from rayopt.memory.steps import MODEL, TrainingSteps, settings_with
from rayopt.training.engine import Means, StepEngine
from rayopt.training.order import most_rows
from rayopt.training.precision import CLOSE, Numerics, candidates, probe
from rayopt.training.settings import TrainSettings

LIMIT_S = 20.0
WHOLE = "the plan is of workers that hold the whole model: what `sharding: fsdp` saves is not counted"
PROBED_ROWS = 16
NAMED = ("sgd", "adamw")  # optimizers that are asked how to update


@dataclass(frozen=True)
class Workers:
    """How many train together, and whether each holds all of the model (`ddp`) or a part of it (`fsdp`)."""

    count: int = 1
    sharding: str = "ddp"

    @property
    def is_split(self) -> bool:
        return self.count > 1 and self.sharding == "fsdp"


ONE = Workers()


@dataclass(frozen=True)
class Answer:
    """A plan and what explains it; `measured_bytes` is the allocator's truth, where it was asked for."""

    plan: Plan
    rows: int  # of a worker's step
    snapshot: Snapshot | None
    measured_bytes: int | None
    warnings: tuple[str, ...] = field(default=())

    @property
    def summary(self) -> dict[str, Any]:
        """As `summary.json` has it."""
        chosen = self.plan.chosen
        return {
            "plan": told(chosen),
            "predicted_bytes": chosen.predicted_bytes,
            "budget_bytes": self.plan.budget_bytes,
            "measured_bytes": self.measured_bytes,
            "step_s": chosen.step_s,
            "timed": self.plan.measured,
            "samples_per_s": self.rows / chosen.step_s if chosen.step_s else None,
            "candidates": [
                {**told(one), "predicted_bytes": one.predicted_bytes, "step_s": one.step_s} for one in self.plan.fitting
            ],
            "memory": asdict(self.snapshot) if self.snapshot else None,
            "warnings": list(self.warnings),
        }

    def settings(self, given: TrainSettings) -> TrainSettings:
        """The settings of a training with the plan filled in."""
        chosen = self.plan.chosen
        micro = None if chosen.micro_batch >= self.rows else chosen.micro_batch
        filled = settings_with(given, chosen.variant, micro)
        return filled.model_copy(update={"compile": given.compile})


def answer(
    steps: TrainingSteps,
    budget_bytes: int,
    place: str,
    workers: Workers = ONE,
    verify: bool = False,
    timed: bool = True,
) -> Answer:
    """Plans a training's step within a budget for each worker; raises InputError at `place` where nothing fits."""
    rows = -(-most_rows(steps.count, steps.settings.batch_size) // workers.count)
    warnings, taken = [], None
    if workers.is_split:
        warnings.append(WHOLE)
    elif workers.count > 1:
        steps = replace(steps, wrap=Bucketed)
    predictor = Predictor(steps, steps.device)
    space = space_of(steps, rows)
    try:
        plan = find_plan(predictor, space, budget_bytes, place, LIMIT_S if timed else None)
    except InputError as error:
        raise _with_note(error, WHOLE) if workers.is_split else error from error
    chosen = plan.chosen
    known = predictor.known(chosen.variant)
    if known.untraceable:
        told_why = f"the step cannot be traced ({known.untraceable})"
        warnings.append(f"{told_why}: its memory is predicted from two small batches that were really run")
    else:
        taken = snapshot(predictor.trace(chosen.micro_batch, chosen.variant))
    truth = None
    if verify:
        truth = measured_bytes(steps, chosen.micro_batch, chosen.variant, steps.device)
        if truth > budget_bytes:
            warnings.append(f"the step took {truth:,} bytes, more than the budget")
    return Answer(plan, rows, taken, truth, tuple(warnings))


def space_of(steps: TrainingSteps, rows: int) -> Space:
    """What the settings leave open: numerics only as far as the losses allow, as the probe of a training has it."""
    settings = steps.settings
    among = candidates(settings, steps.device, steps.examples[0])
    return Space(
        rows,
        tuple(_allowed(steps, among)),
        (True,) if settings.activation_checkpointing else (False, True),
        _updates(settings, steps.device),
        settings.micro_batch if settings.micro_batch and settings.micro_batch < rows else None,
    )


def _updates(settings: TrainSettings, device: torch.device) -> tuple[Foreach, ...]:
    """Ways to update parameters, those that take most first; an optimizer of somebody's own has but its own.

    On a GPU the engine leaves it to torch, which then takes lists of parameters.
    """
    asked = settings.optimizer.foreach
    if asked is not None or settings.optimizer.use not in NAMED:
        return (asked,)
    return (True, False, None) if device.type == "cpu" else (True, False)


def _allowed(steps: TrainingSteps, among: list[Numerics]) -> list[Numerics]:
    """Those whose losses stay close to the first's over a few steps with few rows."""
    if len(among) < 2:
        return among
    x, y, numbers = (one[:PROBED_ROWS] for one in steps.examples)
    x, y = x.to(steps.device), y.to(steps.device)

    def step_of(module: Any, numerics: Numerics) -> Any:
        settings = settings_with(steps.settings, Variant(precision=numerics.precision, layout=numerics.layout), None)
        engine = StepEngine(module[MODEL], module["objective"], settings, 1000, Means(numerics, steps.device))
        return lambda: engine.step([(numerics.laid_out(x), y, numbers, 1.0)])

    _, measured = probe(steps.module, among, step_of)
    return [among[0], *(one.numerics for one in measured[1:] if one.off <= CLOSE)]


def _with_note(error: InputError, note: str) -> InputError:
    return InputError([replace(one, problem=f"{one.problem}; {note}") for one in error.faults])


def told(one: Candidate) -> dict[str, Any]:
    """A candidate in the words of a training job."""
    return {
        "micro_batch": one.micro_batch,
        "accumulation": one.variant.accumulation,
        "activation_checkpointing": one.variant.checkpointing,
        "precision": one.variant.precision,
        "layout": one.variant.layout,
        "foreach": one.variant.foreach,
    }
