"""What a search has asked and been told, and its journal: from the journal alone every state can be rebuilt."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rayopt.runs import journal
from rayopt.search.parameters import key_of, plain
from rayopt.search.space import Params, Space


@dataclass(frozen=True)
class Observation:
    """One evaluated point. More of `value` is better; None: it failed, and `reason` says why.

    stopped_at: the step at which it was ended early, None where it was not.
    """

    params: Params
    value: float | None
    reason: str = ""
    cost_s: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    stopped_at: int | None = None

    @property
    def failed(self) -> bool:
        return self.value is None or not math.isfinite(self.value)


def observed(params: Params, value: Any, cost_s: float = 0.0, metrics: Mapping[str, Any] | None = None) -> Observation:
    """What an evaluation gave; anything but a finite number is a failure."""
    others = {name: float(one) for name, one in (metrics or {}).items() if _finite(one)}
    if _finite(value):
        return Observation(params, float(value), cost_s=cost_s, metrics=others)
    return Observation(params, None, f"the value is {value!r}", cost_s, others)


class History:
    """Observations in the order in which they came, and the points that are still being evaluated.

    With a path, each change is a line of that journal before it is a change here; what the journal holds is read.
    With a space its points are read as that space has them: JSON knows neither tuples nor keys that are numbers.
    """

    def __init__(self, path: Path | None = None, space: Space | None = None) -> None:
        self._path, self._space = path, space
        self._observations: list[Observation] = []
        self._pending: list[Params] = []
        self._reports: dict[str, list[tuple[int, float]]] = {}
        self._about: dict[str, Any] = {}
        self.elapsed_s = 0.0  # how long had been searched when the last point was told of
        for entry in journal.read(path) if path else []:
            self._apply(self._as_asked(entry))

    @property
    def observations(self) -> tuple[Observation, ...]:
        return tuple(self._observations)

    @property
    def pending(self) -> tuple[Params, ...]:
        return tuple(self._pending)

    @property
    def about(self) -> Mapping[str, Any]:
        """What the journal's first line says that its values are of; empty where it says nothing."""
        return dict(self._about)

    @property
    def reports(self) -> Mapping[str, Sequence[tuple[int, float]]]:
        """By `key_of` a point, the (step, value) that were told while it was being evaluated."""
        return {key: tuple(one) for key, one in self._reports.items()}

    @property
    def best(self) -> Observation | None:
        """The observation of most value, the earliest of equals; None as long as all failed."""
        return best_of(self._observations)

    def begin(self, about: Mapping[str, Any]) -> None:
        """Notes what the values are of, unless an earlier run has."""
        if not self._about:
            self._write({"event": "began", "about": about})

    def ask(self, params: Params) -> None:
        """Notes that a point is being evaluated."""
        self._write({"event": "asked", "params": _plain_params(params)})

    def tell(self, observation: Observation, elapsed_s: float = 0.0) -> None:
        """Notes what became of a point, so long after the search began; it is no longer pending."""
        searched = {"elapsed_s": round(elapsed_s, 3)} if elapsed_s else {}
        self._write({"event": "told", **as_entry(observation), **searched})

    def report(self, params: Params, step: int, value: float) -> None:
        """Notes a value that was told while a point is being evaluated."""
        self._write({"event": "reported", "params": _plain_params(params), "step": step, "value": value})

    def drop(self, params: Params) -> None:
        """Notes that a pending point will not be evaluated after all."""
        self._write({"event": "dropped", "params": _plain_params(params)})

    def _write(self, entry: Mapping[str, Any]) -> None:
        if self._path:
            journal.append(self._path, entry)
        self._apply(entry)

    def _as_asked(self, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        """A line of the journal with its point as the space has it, where it is one of the space."""
        try:
            return {**entry, "params": self._space.read(entry["params"])} if self._space else entry
        except (KeyError, TypeError, ValueError, AttributeError):
            return entry

    def _apply(self, entry: Mapping[str, Any]) -> None:
        params, event = entry.get("params"), entry.get("event")
        if event == "began" and isinstance(entry.get("about"), Mapping):
            self._about = dict(entry["about"])
        if not isinstance(params, Mapping):
            return
        if event == "asked":
            self._pending.append(params)
            return
        key = key_of(params)
        if event == "reported":
            self._reports.setdefault(key, []).append((int(entry["step"]), float(entry["value"])))
            return
        place = next((i for i, one in enumerate(self._pending) if key_of(one) == key), None)
        if place is not None:
            del self._pending[place]
        if event == "dropped":
            self._reports.pop(key, None)
        if event == "told":
            self._observations.append(from_entry(entry))
            self.elapsed_s = max(self.elapsed_s, float(entry.get("elapsed_s", 0.0)))


@dataclass(frozen=True)
class WarmStart:
    """What an earlier run gives to a new space, and why its other points do not."""

    observations: tuple[Observation, ...]
    left_out: tuple[str, ...]


COLD = WarmStart((), ())


def warm_start(space: Space, earlier: Iterable[Observation]) -> WarmStart:
    """The earlier observations that lie in the space, and a line for each that does not."""
    kept, left_out = [], []
    for one in earlier:
        try:
            params = space.read(one.params)
        except ValueError as error:
            left_out.append(f"{json.dumps(_plain_params(one.params))}: {error}")
            continue
        kept.append(replace(one, params=params))
    return WarmStart(tuple(kept), tuple(left_out))


def carried_on(
    observations: Sequence[Observation], reports: Mapping[str, Sequence[tuple[int, float]]]
) -> list[Observation]:
    """Those that were ended early with the value that they are believed to have come to.

    That is what they had, and what others gained after that step, in the median. reports: see `History.reports`.
    """
    told = {key: dict(one) for key, one in reports.items()}
    ends = [(told.get(key_of(one.params), {}), one.value) for one in observations if one.stopped_at is None]
    found = []
    for one in observations:
        step = one.stopped_at
        gains = [] if step is None else [end - at[step] for at, end in ends if end is not None and step in at]
        found.append(
            replace(one, value=one.value + statistics.median(gains)) if gains and one.value is not None else one
        )
    return found


def best_of(observations: Sequence[Observation]) -> Observation | None:
    good = [one for one in observations if not one.failed]
    return max(good, key=lambda one: one.value or 0.0) if good else None


def as_entry(observation: Observation) -> dict[str, Any]:
    """The observation as plain data; a value that is not finite becomes None with its reason."""
    value = None if observation.failed else plain(observation.value)
    reason = observation.reason or (f"the value is {observation.value!r}" if observation.failed else "")
    return {
        "params": _plain_params(observation.params),
        "value": value,
        "reason": reason,
        "cost_s": float(observation.cost_s),
        "metrics": {name: float(one) for name, one in observation.metrics.items() if _finite(one)},
        **({} if observation.stopped_at is None else {"stopped_at": observation.stopped_at}),
    }


def from_entry(entry: Mapping[str, Any]) -> Observation:
    """The observation that `as_entry` turned into plain data."""
    value = entry.get("value")
    return Observation(
        dict(entry["params"]),
        None if value is None else float(value),
        str(entry.get("reason", "")),
        float(entry.get("cost_s", 0.0)),
        dict(entry.get("metrics", {})),
        entry.get("stopped_at"),
    )


def _plain_params(params: Params) -> dict[str, Any]:
    return {name: plain(value) for name, value in params.items()}


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        return False
