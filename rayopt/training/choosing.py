"""The numerics that all workers train in: those of the checkpoint, or what the first worker's probe finds fastest."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from rayopt.training import order
from rayopt.training.agree import from_first, seed_step
from rayopt.training.engine import Means, StepEngine
from rayopt.training.precision import Numerics, Probed, candidates, probe
from rayopt.training.seat import Seat

if TYPE_CHECKING:
    from rayopt.training.loop import Work

Told = Mapping[str, Any]


def chosen(
    found: Sequence[Any] | None, work: Work, seat: Seat, module: nn.Module, steps: int
) -> tuple[Numerics, tuple[Told, ...]]:
    """The numerics and what was measured of each; found: precision, layout and measurements of the checkpoint or of
    a training before."""
    if found is not None:
        precision, layout, told = found
        return Numerics(precision, layout), tuple(told)
    batch = order.batches(work.rows.count, work.settings.batch_size, work.seed, 0)[0]
    rows = order.micros(batch, seat.rank, seat.world, work.settings.micro_batch)[0].rows
    x, y, numbers = work.rows.batch(0, rows)
    among = candidates(work.settings, seat.device, x)
    best, measured = among[0], list[Probed]()
    if seat.rank == 0 and len(among) > 1:
        x, y, numbers = (one.to(seat.device) for one in (x, y, numbers))

        def step_of(copied: nn.Module, numerics: Numerics) -> Callable[[], float]:
            objective = copy.deepcopy(work.objective)
            engine = StepEngine(copied, objective, work.settings, steps, Means(numerics, seat.device))
            part = (numerics.laid_out(x), y, numbers, 1.0)

            def step() -> float:
                seed_step(work.seed, engine.count, 0)
                return engine.step([part])

            return step

        best, measured = probe(module, among, step_of)
    number = int(from_first(float(among.index(best)), seat))
    return among[number], tuple(map(_told, measured))


def _told(one: Probed) -> Told:
    return {
        "precision": one.numerics.precision,
        "layout": one.numerics.layout,
        "ms": one.seconds * 1e3,
        "off": one.off,
    }
