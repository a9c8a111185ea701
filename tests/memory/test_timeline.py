"""Lines through two timelines: exact for whatever grows by the row, and the peak may move."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from rayopt.memory.timeline import line_through, timeline
from rayopt.memory.trace import Call, Storage, Trace

SIZES = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 50)), min_size=1, max_size=20)


def traced(sizes: list[tuple[int, int]], rows: int) -> Trace:
    """Storages that are made one after another, every second of which dies at once."""
    trace = Trace()
    for index, (fixed, per_row) in enumerate(sizes):
        size = fixed + per_row * rows
        birth = len(trace.events)
        trace.events.append(("new", size))
        death = None
        if index % 2:
            death = len(trace.events)
            trace.events.append(("free", -size))
        trace.storages.append(Storage(size, birth, "forward", "", death=death))
    return trace


def brute_force(sizes: list[tuple[int, int]], rows: int) -> int:
    """The peak, counted storage by storage."""
    alive = peak = 0
    for index, (fixed, per_row) in enumerate(sizes):
        size = fixed + per_row * rows
        peak = max(peak, alive + size)
        alive += 0 if index % 2 else size
    return peak


@given(SIZES, st.integers(1, 500))
def test_a_line_through_two_traces_is_exact(sizes: list[tuple[int, int]], rows: int) -> None:
    line = line_through((2, traced(sizes, 2), []), (5, traced(sizes, 5), []))
    assert line is not None
    assert line.peak_bytes(rows) == brute_force(sizes, rows) == timeline(traced(sizes, rows), []).peak_bytes


def test_steps_of_other_events_have_no_line() -> None:
    assert line_through((2, traced([(1, 1)], 2), []), (5, traced([(1, 1), (2, 2)], 5), [])) is None


def called(changes: tuple[int, ...], out: int) -> tuple[Trace, list[tuple[int, ...]]]:
    trace = Trace(events=[("op", 0), ("new", out)], storages=[Storage(out, 1, "forward", "")])
    trace.calls.append(Call(torch.relu, (), {}, 0))
    return trace, [changes]


def test_what_an_operator_takes_inside_counts_while_it_runs() -> None:
    trace, inner = called((100, 30, -100), 30)
    found = timeline(trace, inner)
    assert (found.peak_bytes, found.peak_at) == (130, 0)
    assert np.cumsum(found.deltas)[-1] == 30


def test_outputs_that_are_larger_than_the_trace_knows_stay_so() -> None:
    trace, inner = called((100,), 0)  # a workspace
    assert np.cumsum(timeline(trace, inner).deltas)[-1] == 100
