"""Whether a model is slower than its original where it counts: both as the runtime optimises them, timed in turns."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from rayopt.errors import StepError
from rayopt.graph.inputs import Probe, enlarged, feed
from rayopt.graph.proof import Reference
from rayopt.graph.sessions import open_session, run
from rayopt.measure.latency import Rounds, interleave
from rayopt.records import Latency

SLOWER = 1.02
CLEARLY_FASTER = 0.7  # at each of three rounds: that is enough to know that it is not slower


def compare(original: bytes | str, candidate: bytes, reference: Reference, seconds: float) -> dict[str, Any]:
    """Latency ratio with its 95 % interval, and the ratio of session creation; each of a few sizes must not be slower.

    The figures are of the largest size. What looks slower is timed again beside the original against itself, twice as
    long, and counts by that.
    """
    one, before_s = _opened(original)
    other, after_s = _opened(candidate)
    found: dict[str, Any] = {"session_ratio": after_s / before_s if before_s else 1.0, "slower": False}
    for probe in _probes(reference, one):
        fed = feed(reference.inputs, probe)
        told = _at(original, _call(one, fed), _call(other, fed), fed, seconds)
        found |= {**told, "slower": found["slower"] or told["slower"], "probe": asdict(probe)}
    return found


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
    before: Callable[[], object],
    after: Callable[[], object],
    fed: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    calls = {"original": before, "candidate": after}
    table = interleave(calls, "original", 1, Rounds(least=3, most=3, seconds=0))
    if table["candidate"].ratio_high > CLEARLY_FASTER:
        table = interleave(calls, "original", 1, Rounds(least=7, most=41, seconds=seconds))
    itself_high = math.inf
    if _looks_slower(table["candidate"], 1.0):
        calls["again"] = _call(_opened(original)[0], fed)
        table = interleave(calls, "original", 1, Rounds(least=14, most=82, seconds=2 * seconds))
        itself_high = table["again"].ratio_high
    found = table["candidate"]
    return {
        "latency_ms": table["original"].latency_ms,
        "ratio": found.ratio,
        "ratio_low": found.ratio_low,
        "ratio_high": found.ratio_high,
        "slower": itself_high < math.inf and _looks_slower(found, itself_high),
    }


def _looks_slower(found: Latency, itself_high: float) -> bool:
    return found.ratio > SLOWER and found.ratio_low > max(1.0, itself_high)


def _opened(model: bytes | str) -> tuple[Any, float]:
    start = time.perf_counter()
    return open_session(model, optimize=True), time.perf_counter() - start


def _call(running: Any, fed: Mapping[str, Any]) -> Callable[[], object]:
    names = {one.name for one in (*running.get_inputs(), *running.get_overridable_initializers())}
    given = {name: value for name, value in fed.items() if name in names}
    run(running, given)
    return lambda: running.run(None, given)
