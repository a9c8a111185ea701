"""Whether a model is slower than its original where it counts: both as the runtime optimises them, timed in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from rayopt.graph.sessions import open_session, run
from rayopt.measure.latency import Rounds, interleave
from rayopt.records import Latency

SLOWER = 1.02


def compare(original: bytes | str, candidate: bytes, fed: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Latency ratio with its 95 % interval, and the ratio of session creation.

    What looks slower is timed again beside the original against itself, twice as long, and counts by that.
    """
    one, before_s = _opened(original)
    other, after_s = _opened(candidate)
    calls = {"original": _call(one, fed), "candidate": _call(other, fed)}
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
        "session_ratio": after_s / before_s if before_s else 1.0,
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
