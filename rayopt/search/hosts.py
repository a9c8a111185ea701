"""The seam to where the trials of a search run, several in flight at a time, and its twin in this process."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from rayopt.errors import Fault, InputError
from rayopt.search.asking import Asking
from rayopt.search.history import Observation, observed
from rayopt.search.parameters import key_of
from rayopt.search.rungs import EarlyStop, Rule, rule_of
from rayopt.search.space import Params

Outcome = dict[str, Any]  # value, metrics, reason, stopped_at; faults where no trial of the search can succeed
Measured = Callable[[int, Mapping[str, float]], bool]  # step and metrics on the way -> whether to stop here
Evaluate = Callable[[Params, Measured], Outcome]


@dataclass(frozen=True)
class Early:
    """How trials are ended early: by `metric` of what they report, times `sign`, more is better."""

    given: EarlyStop
    metric: str
    sign: int

    def value(self, metrics: Mapping[str, float]) -> float | None:
        found = metrics.get(self.metric)
        return None if found is None or not math.isfinite(found) else self.sign * float(found)


@dataclass(frozen=True)
class Team:
    """The workers that a trial starts beside itself where they are more than one, and what each of them asks for."""

    workers: int = 1
    resources: Mapping[str, float] = field(default_factory=dict)


class Watch(Protocol):
    """Is told of trials by one thread at a time."""

    def trial_started(self, params: Params) -> None: ...

    def trial_reported(self, params: Params, step: int, value: float) -> None: ...

    def trial_ended(self, observation: Observation) -> None: ...


@dataclass
class Flight:
    """The trials of one search as a host is given them. `evaluate` is sent to where they run, and never raises.

    name: the search's; id_of: by what a trial is known. Both are for who watches the host.
    """

    asking: Asking
    evaluate: Evaluate
    parallel: int
    watch: Watch
    early: Early | None = None
    team: Team = field(default_factory=lambda: Team())
    name: str = "search"
    id_of: Callable[[Params], str] = key_of
    error: Exception | None = None
    _began: dict[str, float] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @contextlib.contextmanager
    def heeded(self) -> Iterator[None]:
        """What is raised here, such as by a journal on a full disk, ends the search, whoever else would catch it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - `error` is raised once the host is done
            self.error = self.error or error
            self.asking.halt("the search cannot go on")

    def next(self) -> Params | None:
        """A point to be evaluated now, None when there is none any more."""
        params = self.asking.ask()
        if params is not None:
            with self._lock:
                self._began[key_of(params)] = time.monotonic()
                self.watch.trial_started(params)
        return params

    def reported(self, params: Params, step: int, value: float) -> None:
        """A value on the way; kept, so that the rule can be told of it again."""
        with self._lock:
            self.asking.report(params, step, value)
            self.watch.trial_reported(params, step, value)

    def ended(self, params: Params, outcome: Mapping[str, Any]) -> None:
        """What came of a point."""
        with self._lock:
            cost_s = time.monotonic() - self._began.pop(key_of(params), time.monotonic())
            if outcome.get("faults"):
                self.error = self.error or InputError([Fault(*one) for one in outcome["faults"]])
                self.asking.drop(params)
                self.asking.halt("the search cannot succeed")
                return
            found = observed(params, outcome.get("value"), cost_s, outcome.get("metrics"))
            if found.failed:
                found = replace(found, value=None, reason=str(outcome.get("reason") or found.reason))
            elif outcome.get("stopped_at") is not None:
                found = replace(found, stopped_at=int(outcome["stopped_at"]))
            self.asking.tell(found)
            self.watch.trial_ended(found)

    def rule(self) -> Rule | None:
        """The rule by which trials are ended early, told of all that was reported before."""
        return rule_of(self.early.given, self.asking.history.reports) if self.early else None


class TrialHost(Protocol):
    """`run` evaluates what the flight asks for until it asks for no more. `close` leaves nothing behind."""

    name: str

    def run(self, flight: Flight) -> None: ...

    def close(self) -> None: ...


class InTurn:
    """The twin that evaluates here, one after another."""

    name = "in process"

    def run(self, flight: Flight) -> None:
        rule = flight.rule()
        while (params := flight.next()) is not None:
            flight.ended(params, flight.evaluate(params, self._measured(flight, params, rule)))

    def close(self) -> None: ...

    def _measured(self, flight: Flight, params: Params, rule: Rule | None) -> Measured:
        def measured(step: int, metrics: Mapping[str, float]) -> bool:
            value = flight.early.value(metrics) if flight.early else None
            if value is None or rule is None:
                return False
            flight.reported(params, step, value)
            return rule.judge(key_of(params), step, value)

        return measured
