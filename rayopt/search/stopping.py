"""When a search has done enough: a pure rule over its history."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from rayopt.search.history import Observation
from rayopt.spec import Settings


class Stop(Settings):
    """Any of these ends a search."""

    patience: int | None = Field(None, ge=1, description="evaluations in a row without a better one")
    time_s: float | None = Field(None, gt=0, description="seconds of searching, those of earlier runs of it included")
    target: float | None = Field(None, description="a value that is good enough")
    min_gain: float = Field(0.0, ge=0, description="what an evaluation must be better by to count for `patience`")


def reason_to_stop(stop: Stop, history: Sequence[Observation], elapsed_s: float, sign: int = 1) -> str:
    """Why the search is over, or "" if it is not. sign: -1 where observations have the negative of what is meant."""
    best, waited = None, 0
    for one in history:
        if one.value is not None and not one.failed and (best is None or one.value > best + stop.min_gain):
            best, waited = one.value, 0
        else:
            waited += 1
    if stop.target is not None and best is not None and best >= sign * stop.target:
        return f"the target {stop.target:g} is reached"
    if stop.patience is not None and best is not None and waited >= stop.patience:
        return f"nothing better in {waited} evaluations"
    if stop.time_s is not None and elapsed_s >= stop.time_s:
        return f"{stop.time_s:g} s have passed"
    return ""
