"""The bytes alive over a step, event by event; and two of them for two batch sizes as a line for all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayopt.memory.scratch import Changes
from rayopt.memory.trace import Storage, Trace

Deltas = NDArray[np.float64]


@dataclass(frozen=True)
class Timeline:
    """What each event adds to the bytes alive, and which event of the trace it belongs to."""

    deltas: Deltas  # (events,)
    origin: NDArray[np.int64]  # (events,)

    @property
    def peak_bytes(self) -> int:
        return _peak(self.deltas)

    @property
    def peak_at(self) -> int:
        """The event of the trace at which the peak is."""
        return int(self.origin[int(np.cumsum(self.deltas).argmax())])


@dataclass(frozen=True)
class Line:
    """Each event's bytes as `fixed + per_row * rows`: a peak may move from one event to another between batch sizes."""

    fixed: Deltas  # (events,)
    per_row: Deltas

    def peak_bytes(self, rows: int) -> int:
        return _peak(self.fixed + self.per_row * rows)


def timeline(trace: Trace, inner: Sequence[Changes]) -> Timeline:
    """A trace with what its operators take inside."""
    deltas: list[float] = []
    origin: list[int] = []
    inside = {call.at: changes for call, changes in zip(trace.calls, inner, strict=True)}
    missing = dict(_missing(trace, inner))
    for at, (_, added) in enumerate(trace.events):
        added += missing.get(at, 0)
        parts = (*inside[at], -sum(inside[at])) if at in inside else (added,)
        deltas += parts
        origin += [at] * len(parts)
    return Timeline(np.array(deltas, dtype=np.float64), np.array(origin))


def line_through(
    first: tuple[int, Trace, Sequence[Changes]], second: tuple[int, Trace, Sequence[Changes]]
) -> Line | None:
    """The line through the traces of two numbers of rows, None where they are not made of the same events."""
    rows = (first[0], second[0])
    if rows[0] == rows[1] or [one for one, _ in first[1].events] != [one for one, _ in second[1].events]:
        return None
    inner = _alike(first[2], second[2])
    low, high = timeline(first[1], inner[0]).deltas, timeline(second[1], inner[1]).deltas
    per_row = (high - low) / (rows[1] - rows[0])
    return Line(low - per_row * rows[0], per_row)


def _alike(first: Sequence[Changes], second: Sequence[Changes]) -> tuple[list[Changes], list[Changes]]:
    """Changes of the same operators as pairs of equal length: where they differ, the peak alone is left of both."""
    pairs = [
        (one, other) if len(one) == len(other) else ((_rise(one),), (_rise(other),))
        for one, other in zip(first, second, strict=True)
    ]
    return [one for one, _ in pairs], [other for _, other in pairs]


def _missing(trace: Trace, inner: Sequence[Changes]) -> Iterator[tuple[int, int]]:
    """Bytes of outputs that a trace takes for smaller than they are: what is left of the changes is theirs.

    A recurrent layer's workspace has no size there, batch normalisation's means are float32 even in bf16.
    """
    by_birth = {one.birth: one for one in trace.storages}
    for call, changes in zip(trace.calls, inner, strict=True):
        outs: list[Storage] = []
        while (at := call.at + 1 + len(outs)) in by_birth:
            outs.append(by_birth[at])
        left = sum(changes) - sum(one.size_bytes for one in outs)
        if outs and left > 0:
            last = next((one for one in reversed(outs) if one.size_bytes == 0), outs[-1])
            yield last.birth, left
            if last.death is not None:
                yield last.death, -left


def _rise(changes: Changes) -> int:
    return max(0, int(np.cumsum(changes).max())) if changes else 0


def _peak(deltas: Deltas) -> int:
    return round(float(np.cumsum(deltas).max(initial=0.0)))
