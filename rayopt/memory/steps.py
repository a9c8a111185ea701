"""Steps of a job's own training for the tracer, the allocator and the clock: the step engine's, on some of its rows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rayopt.memory.rehearsal import Step, Variant, Watch
from rayopt.training.engine import Means, StepEngine
from rayopt.training.learner import Learner
from rayopt.training.precision import Numerics
from rayopt.training.settings import TrainSettings
from rayopt.training.source import Source

EXAMPLES = 64
STEPS = 1_000_000  # that the schedule is spread over: it takes no memory
MODEL, OBJECTIVE = "model", "objective"


@dataclass(frozen=True)
class TrainingSteps:
    """A training's model and objective as one module, its settings, and some of its rows: x, y and their numbers.

    count: of all rows; wrap: makes the learner what a worker of several has.
    """

    module: nn.ModuleDict
    settings: TrainSettings
    examples: tuple[Tensor, Tensor, Tensor]
    count: int
    device: torch.device
    wrap: Callable[[Learner], nn.Module] = lambda learner: learner

    @property
    def row_bytes(self) -> int:
        """What a row of the data takes."""
        return sum(one[0].numel() * one.element_size() for one in self.examples)

    def open(self, module: nn.Module, rows: int, variant: Variant, watch: Watch) -> Step:
        """As `Rehearsal.open`: the micro-batches of a step are all there from its beginning, as in the loop."""
        numerics = Numerics(variant.precision, variant.layout)
        engine = StepEngine(
            module.get_submodule(MODEL),
            module.get_submodule(OBJECTIVE),
            settings_with(self.settings, variant, None),
            STEPS,
            Means(numerics, self.device, self.wrap),
        )
        watch(engine._learner, engine.optimizer)
        share = 1 / variant.accumulation

        def step() -> None:
            parts = []
            for _ in range(variant.accumulation):
                at = torch.arange(rows) % len(self.examples[0])
                x, y, numbers = (one[at] for one in self.examples)
                if self.device.type != "cpu":
                    x, y, numbers = (one.to(self.device) for one in (x, y, numbers))
                parts.append((numerics.laid_out(x), y, numbers, share))
                del x, y, numbers, at
            engine.step(parts)

        return step


def steps_of(
    module: nn.Module, objective: nn.Module, rows: Source, settings: TrainSettings, device: torch.device
) -> TrainingSteps:
    """What to rehearse of a training; its model is copied."""
    examples = rows.batch(0, torch.arange(min(EXAMPLES, rows.count)))
    both = nn.ModuleDict({MODEL: copy.deepcopy(module), OBJECTIVE: copy.deepcopy(objective)})
    return TrainingSteps(both, settings, examples, rows.count, device)


def settings_with(settings: TrainSettings, variant: Variant, micro_batch: int | None) -> TrainSettings:
    """Settings with what a plan has decided filled in."""
    optimizer = settings.optimizer.model_copy(update={"foreach": variant.foreach})
    return settings.model_copy(
        update={
            "optimizer": optimizer,
            "activation_checkpointing": variant.checkpointing,
            "precision": variant.precision,
            "layout": variant.layout,
            "micro_batch": micro_batch,
            "compile": settings.compile and micro_batch is not None,  # a rehearsal is not compiled
        }
    )
