"""Whether a model is slower than its original where it counts: both as the runtime optimizes them, timed in turns.

The best candidate is chosen by what is the same each time: its nodes and bytes. Timing is a guard: only what is slower
beyond doubt is passed over, so that a busy machine does not change what comes out.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from rayopt.errors import StepError
from rayopt.graph.inputs import Probe, enlarged, feed
from rayopt.graph.lowered import makes_same
from rayopt.graph.proof import Reference
from rayopt.graph.sessions import open_session, run
from rayopt.measure.latency import Rounds, interleave
from rayopt.records import Latency

SLOWER = 1.02
CLEARLY_FASTER = 0.7  # at each of three rounds: that is enough to know that it is not slower
TRIALS = 5  # of what looks slower, each with sessions of its own ...
ENOUGH = 4  # ... of which so many must say so
SLOWER_OPENING = 1.25
MUCH_FASTER_OPENING = 0.5  # of the first one of each: that is enough to know
OPENINGS = (2, 12)  # more of each, and still more where it looks slower
ONCE_BYTES = 64 << 20  # what is larger is opened once: more sessions at a time do not fit into its memory
SHORT_S = 0.001  # a difference of which nobody takes notice


def compare(original: bytes | str, candidate: bytes, reference: Reference, seconds: float) -> dict[str, Any]:
    """Latency ratio with its 95 % interval, and the ratio of session creation; each of a few sizes must not be slower.

    The figures are of the largest size. `slower`: "" or in which way. Models of which the runtime makes the same graph
    are not timed: their ratio is 1.
    """
    other, one, session_ratio, slow_opening = _openings(original, candidate)
    found: dict[str, Any] = {"session_ratio": session_ratio, "slower": "to load" if slow_opening else ""}
    if session_ratio > MUCH_FASTER_OPENING and makes_same(original, candidate):
        return {**found, "ratio": 1.0, "ratio_low": 1.0, "ratio_high": 1.0, "same_graph": True}
    for probe in _probes(reference, one):
        fed = feed(reference.inputs, probe)
        told, slower = _at(original, candidate, (_call(one, fed), _call(other, fed)), fed, seconds)
        found |= {**told, "slower": found["slower"] or ("to run" if slower else ""), "probe": asdict(probe)}
    return found


def _openings(original: bytes | str, candidate: bytes) -> tuple[Any, Any, float, bool]:
    """A session of each, the ratio of the shortest session creations, and whether ours is slower beyond doubt.

    The candidate comes first: what one that is first does not find in the caches speaks against it.
    """
    other, after_s = _opened_in(candidate)
    one, before_s = _opened_in(original)
    if after_s < MUCH_FASTER_OPENING * before_s or len(candidate) > ONCE_BYTES:
        return other, one, after_s / before_s, False
    after, before = [after_s], [before_s]
    for count in OPENINGS:
        for index in range(count):
            pairs = [(original, before), (candidate, after)]
            for model, seconds in pairs if index % 2 else pairs[::-1]:
                seconds.append(_opened_in(model)[1])
        ratio = min(after) / min(before)
        slower = min(ratio, statistics.median(after) / statistics.median(before)) > SLOWER_OPENING
        if not slower or min(after) - min(before) < SHORT_S:
            return other, one, ratio, False
    return other, one, ratio, True


def _opened_in(model: bytes | str) -> tuple[Any, float]:
    start = time.perf_counter()
    return open_session(model, optimize=True), time.perf_counter() - start


def _probes(reference: Reference, running: Any) -> list[Probe]:
    """What is timed: the largest of the probes, and where axes are dynamic a larger one that the model takes."""
    sizes = [sum(np.size(one) for one in feed(reference.inputs, probe).values()) for probe in reference.probes]
    largest = reference.probes[int(np.argmax(sizes))]
    for dims in enlarged(reference.inputs, largest.dims):
        probe = replace(largest, dims=dims)
        with contextlib.suppress(StepError):
            run(running, feed(reference.inputs, probe))
            return [largest, probe]
    return [largest]


def _at(
    original: bytes | str,
    candidate: bytes,
    calls: tuple[Callable[[], object], Callable[[], object]],
    fed: Mapping[str, Any],
    seconds: float,
) -> tuple[dict[str, Any], bool]:
    """The figures at one size, and whether it is slower there: what looks so is timed anew, TRIALS times."""
    pair = {"original": calls[0], "candidate": calls[1]}
    table: Mapping[str, Latency] = interleave(pair, "original", 1, Rounds(least=3, most=3, seconds=0))
    if table["candidate"].ratio_high > CLEARLY_FASTER:
        table = interleave(pair, "original", 1, Rounds(least=7, most=41, seconds=seconds))
    slower = table["candidate"].ratio > SLOWER
    if slower:
        trials = _trials(original, candidate, fed, seconds)
        slower = sum(says for says, _ in trials) >= ENOUGH
        table = sorted((table for _, table in trials), key=lambda one: one["candidate"].ratio)[(len(trials) - 1) // 2]
    found = table["candidate"]
    told = {
        "latency_ms": table["original"].latency_ms,
        "ratio": found.ratio, "ratio_low": found.ratio_low, "ratio_high": found.ratio_high,
    }  # fmt: skip
    return told, slower


def _trials(
    original: bytes | str, candidate: bytes, fed: Mapping[str, Any], seconds: float
) -> list[tuple[bool, Mapping[str, Latency]]]:
    """Each trial: whether the candidate is slower than the original is than itself, and the figures."""
    found: list[tuple[bool, Mapping[str, Latency]]] = []
    for _ in range(TRIALS):
        models = {"original": original, "candidate": candidate, "again": original}
        calls = {name: _call(open_session(model, optimize=True), fed) for name, model in models.items()}
        table = interleave(calls, "original", 1, Rounds(least=11, most=41, seconds=seconds))
        ratio = table["candidate"]
        found.append((ratio.ratio > SLOWER and ratio.ratio_low > max(1.0, table["again"].ratio_high), table))
        if sum(not says for says, _ in found) > TRIALS - ENOUGH:
            break
    return found


def _call(running: Any, fed: Mapping[str, Any]) -> Callable[[], object]:
    names = {one.name for one in (*running.get_inputs(), *running.get_overridable_initializers())}
    given = {name: value for name, value in fed.items() if name in names}
    run(running, given)
    return lambda: running.run(None, given)
