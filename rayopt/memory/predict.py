"""The peak of a step for any number of rows: two traces for few rows and a line through each of their events.

A step that cannot be traced, because what it does depends on its data, is taken for few rows instead, and said to be.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from rayopt.errors import InputError, input_error
from rayopt.memory.fakes import fake_copy
from rayopt.memory.rehearsal import STEPS, Rehearsal, Variant, measured_bytes, take
from rayopt.memory.scratch import Changes, scratch
from rayopt.memory.timeline import Line, Timeline, line_through, timeline
from rayopt.memory.trace import Trace, tracing, watch

MOST_ROWS = 64  # of the smaller trace: operators take other ways for few rows than for many
LIMIT_FLOPS = 8e9  # what trying each operator may cost
TRIED_ROWS = (18, 36)
LEAST_ROWS = 2  # batch normalisation cannot train on one
SUM_BYTES = 4  # of losses, in float32
MARGIN = 1.1  # on peaks of steps that depend on their data
log = logging.getLogger("rayopt")


@dataclass(frozen=True)
class Traced:
    """A traced step with what its operators take inside."""

    rows: int
    trace: Trace
    inner: Sequence[Changes]

    @property
    def timeline(self) -> Timeline:
        return timeline(self.trace, self.inner)


@dataclass(frozen=True)
class Known:
    """What is known of a variant: the line of its peaks, the work of a row, and why it could not be traced, if so."""

    line: Line
    flops_per_row: float = 0.0
    moved_bytes_per_row: float = 0.0
    operators_count: int = 0
    untraceable: str = ""
    row_bytes: int = 0

    def peak_bytes(self, rows: int, variant: Variant) -> int:
        peak = self.line.peak_bytes(rows)
        return (int(peak * MARGIN) if self.untraceable else peak) + waiting_bytes(self.row_bytes, rows, variant)


@dataclass
class Predictor:
    """Predicts the steps of a rehearsal; what was traced is kept."""

    rehearsal: Rehearsal
    device: torch.device
    place: str = "model"
    _known: dict[Variant, Known] = field(default_factory=dict)

    def peak_bytes(self, rows: int, variant: Variant) -> int:
        """The most bytes at once of a step with micro-batches of `rows` rows, weights and all."""
        return self.known(variant).peak_bytes(rows, variant)

    def known(self, variant: Variant) -> Known:
        """The line of a variant; raises InputError where its step fails."""
        shape = variant.shape
        if shape not in self._known:
            self._known[shape] = replace(self._learn(shape), row_bytes=self.rehearsal.row_bytes)
        return self._known[shape]

    def confirmed_bytes(self, rows: int, variant: Variant) -> int:
        """The peak by a trace for these very rows, with its operators tried for them too where that is not too much."""
        shape = variant.shape
        if shape in self._known and self._known[shape].untraceable:
            return self.peak_bytes(rows, variant)
        try:
            traced = self.trace(rows, shape, with_scratch=False)
        except Exception:  # noqa: BLE001  whatever a step of anybody's does without data
            return self.peak_bytes(rows, variant)
        if traced.trace.flops / STEPS > LIMIT_FLOPS * 4:
            return self.peak_bytes(rows, variant)
        peak = timeline(traced.trace, scratch(traced.trace.calls, self.device)).peak_bytes
        return peak + waiting_bytes(self.rehearsal.row_bytes, rows, variant)

    def trace(self, rows: int, variant: Variant, with_scratch: bool = True) -> Traced:
        """Two steps with micro-batches of `rows` rows, traced."""
        device = self.device
        with tracing(512 if device.type == "cuda" else 1) as tracer:
            module = fake_copy(self.rehearsal.module)
            step = self.rehearsal.open(module, rows, variant, lambda copy, optimizer: watch(copy, optimizer, tracer))
            for _ in range(STEPS):
                step()
        trace = tracer.trace
        return Traced(rows, trace, scratch(trace.calls, device) if with_scratch else [() for _ in trace.calls])

    def _learn(self, variant: Variant) -> Known:
        try:
            per_row = self.trace(LEAST_ROWS, variant, with_scratch=False).trace.flops / STEPS / LEAST_ROWS
            rows = min(MOST_ROWS, max(LEAST_ROWS, int(LIMIT_FLOPS / 3 / max(per_row, 1))))
            low, high = self.trace(rows, variant), self.trace(2 * rows, variant)
        except Exception as error:  # noqa: BLE001  whatever a step of anybody's does without data
            return self._try(variant, error)
        line = line_through((low.rows, low.trace, low.inner), (high.rows, high.trace, high.inner))
        if line is None:
            line = _peaks((low.rows, low.timeline.peak_bytes), (high.rows, high.timeline.peak_bytes))
        share = 1 / (STEPS * variant.accumulation * high.rows)
        return Known(
            line, high.trace.flops * share, high.trace.moved_bytes * share, high.trace.operators_count // STEPS
        )

    def _try(self, variant: Variant, error: Exception) -> Known:
        """The line through the steps that were really taken."""
        try:
            take(self.rehearsal, LEAST_ROWS, variant)
            low, high = (measured_bytes(self.rehearsal, rows, variant, self.device) for rows in TRIED_ROWS)
        except InputError:
            raise
        except Exception as fault:
            problem = f"a step of the training fails: {type(fault).__name__}: {_first_line(fault)}"
            remedy = "check that the model's outputs, the loss and the targets fit each other"
            raise input_error(self.place, problem, remedy) from fault
        reason = f"{type(error).__name__}: {_first_line(error)}"
        if not any(one.untraceable for one in self._known.values()):
            log.warning(
                "the step cannot be traced (%s): its memory is predicted from small batches that are run", reason
            )
        return Known(_peaks((TRIED_ROWS[0], low), (TRIED_ROWS[1], high)), untraceable=reason)


def waiting_bytes(row_bytes: int, rows: int, variant: Variant) -> int:
    """Of the micro-batches beyond those that were traced: their rows, and the sum of the losses before the last."""
    more = variant.accumulation - variant.shape.accumulation
    return row_bytes * rows * more + (SUM_BYTES if more else 0)


def _peaks(first: tuple[int, int], second: tuple[int, int]) -> Line:
    """The line of the peaks alone."""
    per_row = (second[1] - first[1]) / (second[0] - first[0])
    return Line(np.array([first[1] - per_row * first[0]]), np.array([per_row]))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")
