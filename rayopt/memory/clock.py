"""What a step costs in seconds: measured on real micro-batches that fit, or counted where nothing may be run."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from rayopt.memory.predict import Predictor
from rayopt.memory.rehearsal import Foreach, Rehearsal, Variant

ROUNDS = 3
SMALLEST_FIRST: tuple[Foreach, ...] = (None, False, True)
# For counting alone: an ordinary CPU's core, in floating point operations and bytes a second, and a call's own time.
FLOPS_PER_S, BYTES_PER_S, CALL_S = 5e10, 1e10, 1e-5
log = logging.getLogger("rayopt")
Point = tuple[int, Variant]  # rows of a micro-batch, and how its step is taken


@dataclass(frozen=True)
class Costs:
    """Seconds of a micro-batch's forward and backward pass by rows and variant, and of an optimizer's step."""

    passes: dict[Point, float]
    updates: dict[Foreach, float]

    def step_s(self, rows: int, variant: Variant) -> float:
        """Seconds of a whole step."""
        return self.passes[_plain(rows, variant)] * variant.accumulation + self.updates[variant.foreach]


def measured_costs(rehearsal: Rehearsal, points: Sequence[Point], device: torch.device, limit_s: float) -> Costs:
    """Times every pass and update that the points are made of, in turns; the best of up to ROUNDS rounds.

    When `limit_s` is over no new rows are tried: larger micro-batches are then taken to cost as much a row as the
    largest that was timed. What runs out of memory costs infinitely much.
    """
    started = time.perf_counter()
    wanted = sorted({_plain(rows, variant) for rows, variant in points}, key=lambda point: (point[0], str(point[1])))
    foreach = [one for one in SMALLEST_FIRST if any(variant.foreach is one for _, variant in points)]
    passes: dict[Point, float] = {}
    updates: dict[Foreach, float] = {}
    for round_ in range(ROUNDS):
        for rows, plain in wanted:
            late = time.perf_counter() - started > limit_s
            if late and (round_ > 0 or any(other == plain for _, other in passes)):
                continue
            options = foreach if rows == wanted[0][0] else foreach[:1]  # the smallest fits where others do
            for one in options:
                try:
                    spent, update = _timed(rehearsal, rows, replace(plain, foreach=one), device)
                except torch.OutOfMemoryError:  # others hold what the budget says is there
                    log.warning("no memory was left to time a step of %d rows", rows)
                    spent = update = math.inf
                passes[rows, plain] = min(spent, passes.get((rows, plain), spent))
                updates[one] = min(update, updates.get(one, update))
    for rows, plain in wanted:
        if (rows, plain) not in passes:
            known, spent = max((other, spent) for (other, same), spent in passes.items() if same == plain)
            passes[rows, plain] = spent * rows / known
    return Costs(passes, updates)


def counted_costs(predictor: Predictor, points: Sequence[Point]) -> Costs:
    """By what the traces counted: operations, bytes moved, calls."""
    passes = {}
    for rows, variant in {_plain(rows, variant) for rows, variant in points}:
        known = predictor.known(variant)
        speed = FLOPS_PER_S * (2 if variant.precision != "fp32" and _has_bf16() else 1)
        work = known.flops_per_row * rows / speed + known.moved_bytes_per_row * rows / BYTES_PER_S
        passes[rows, variant] = work + known.operators_count * CALL_S
    return Costs(passes, {None: 0.0, True: CALL_S, False: 2 * CALL_S})


def _plain(rows: int, variant: Variant) -> Point:
    """A pass is the same whatever the optimizer does, and however many follow."""
    return rows, replace(variant, accumulation=1, foreach=None)


def _timed(rehearsal: Rehearsal, rows: int, variant: Variant, device: torch.device) -> tuple[float, float]:
    """Seconds of the passes and of the update of one step, after one that warms up."""
    spans: list[float] = []

    def watch(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        def before(*_: Any) -> None:
            spans.append(-_now(device))

        def after(*_: Any) -> None:
            spans[-1] += _now(device)

        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)

    step = rehearsal.open(copy.deepcopy(rehearsal.module), rows, variant, watch)
    step()
    start = _now(device)
    step()
    total = _now(device) - start
    update = spans[-1] if spans else 0.0
    return total - update, update


def _now(device: torch.device) -> float:
    """Seconds; of this process alone where one thread does everything, so that others' work does not count."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time() if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


def _has_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
