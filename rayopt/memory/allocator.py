"""The allocator's own account of what some work took: the truth that predictions are held against.

On a CPU the profiler tells every block that torch's allocator gives and takes back, those of oneDNN's scratchpads
included; on CUDA the caching allocator keeps its peak itself.
"""

from __future__ import annotations

import gc
import logging
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch

# Kineto writes two lines to stderr whenever a profile begins and ends.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

MEMORY, WORK = "[memory]", "rayopt work "
log = logging.getLogger(__name__)
Work = Callable[[], Any]


def peak_bytes(work: Work, device: torch.device) -> int:
    """The most bytes that were allocated at once while `work()` ran, beyond those at its start."""
    gc.collect()
    if device.type == "cuda":
        return _cuda_peak(work, device)
    return max(accumulate(changes(work)), default=0)


def changes(work: Work) -> list[int]:
    """Every change of the allocated bytes during `work()` on the CPU, in order: allocations above, frees below zero."""
    with _profile() as profile:
        work()
    return [event.nbytes() for event in _events(profile) if event.name() == MEMORY]


def changes_of(works: Sequence[Callable[[], Work]], device: torch.device) -> list[tuple[int, ...]]:
    """The changes that each work makes, in one profile for all; none for one that fails.

    A work is given as what makes it ready, outside of what is measured. On CUDA, where only peaks are known, its
    changes are its peak.
    """
    if device.type == "cuda":
        return [_cuda_changes(ready, device) for ready in works]
    with _profile() as profile:
        for index, ready in enumerate(works):
            try:
                work = ready()
                work()  # what is made once, a primitive's code say, is not the work's own
                with torch.profiler.record_function(f"{WORK}{index}"):
                    kept = work()
                del kept, work
            except Exception as error:  # noqa: BLE001  whatever an operator of anybody's makes of zeros
                log.debug("work %d cannot be run by itself: %s", index, error)
    memory, spans = [], {}
    for event in _events(profile):
        if event.name() == MEMORY:
            memory.append((event.start_ns(), event.nbytes()))
        elif event.name().startswith(WORK):
            spans[int(event.name()[len(WORK) :])] = (event.start_ns(), event.end_ns())
    times = [at for at, _ in memory]
    return [
        tuple(
            change for _, change in memory[bisect_left(times, spans[index][0]) : bisect_right(times, spans[index][1])]
        )
        if index in spans
        else ()
        for index in range(len(works))
    ]


def _cuda_changes(ready: Callable[[], Work], device: torch.device) -> tuple[int, ...]:
    try:
        return (_cuda_peak(ready(), device),)
    except Exception as error:  # noqa: BLE001  as above
        log.debug("an operator cannot be run by itself: %s", error)
        return ()


def _cuda_peak(work: Work, device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _profile() -> Any:
    return torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True)


def _events(profile: Any) -> Sequence[Any]:
    found: Sequence[Any] = profile.profiler.kineto_results.events()
    return found
