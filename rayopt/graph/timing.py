"""Whether a model is slower than its original where it counts: both as the runtime optimises them, timed in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rayopt.graph.sessions import open_session, run
from rayopt.measure.latency import Rounds, interleave

SLOWER = 1.02


def compare(original: bytes, candidate: bytes, fed: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Latency ratio with its 95 % interval, the original against itself, and the ratio of session creation.

    What looks slower is timed again, twice as long, and counts by that.
    """
    start = time.perf_counter()
    one = open_session(original, optimize=True)
    before = time.perf_counter() - start
    start = time.perf_counter()
    other = open_session(candidate, optimize=True)
    after = time.perf_counter() - start
    again = open_session(original, optimize=True)
    calls = {"original": _call(one, fed), "again": _call(again, fed), "candidate": _call(other, fed)}
    found: dict[str, Any] = {}
    for factor in (1, 2):
        rounds = Rounds(least=7 * factor, most=41 * factor, seconds=seconds * factor)
        table = interleave(calls, "original", 1, rounds)
        candidate_, itself = table["candidate"], table["again"]
        slower = candidate_.ratio > SLOWER and candidate_.ratio_low > max(1.0, itself.ratio_high)
        found = {
            "latency_ms": table["original"].latency_ms,
            "ratio": candidate_.ratio,
            "ratio_low": candidate_.ratio_low,
            "ratio_high": candidate_.ratio_high,
            "itself_high": itself.ratio_high,
            "session_ratio": after / before if before else 1.0,
            "slower": slower,
        }
        if not slower:
            break
    return found


def _call(running: Any, fed: Mapping[str, Any]) -> Callable[[], object]:
    names = {one.name for one in (*running.get_inputs(), *running.get_overridable_initializers())}
    given = {name: value for name, value in fed.items() if name in names}
    run(running, given)
    return lambda: running.run(None, given)
