"""The two ends of an asynchronous search: what to evaluate next, and what came of it. Safe to be called by threads.

Everything is in the history's journal before it is here: a search that was killed goes on from it, first with the
points that were being evaluated, and none that has ended is evaluated again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from rayopt.errors import InputError, input_error
from rayopt.search.history import History, Observation, carried_on
from rayopt.search.space import Params
from rayopt.search.stopping import Stop, reason_to_stop

Propose = Callable[[Sequence[Observation], Sequence[Params]], Params | None]
HOPELESS = 8  # failures without a single success, after which no more is asked
EXHAUSTED = "every point has been tried"


class Asking:
    """`propose(observations, pending)` gives a point, None where there is no other.

    count: how many points are evaluated in all, those of earlier runs of this search included. earlier: observations
    of another search, which are learnt from and do not count. sign: as `reason_to_stop` takes it.
    carry: whether what is reported on the way is the value itself, so that what is ended early can be compared.
    """

    def __init__(
        self,
        propose: Propose,
        history: History,
        count: int,
        stop: Stop | None = None,
        sign: int = 1,
        earlier: Sequence[Observation] = (),
        carry: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._propose, self._history, self._count = propose, history, count
        self._stop, self._sign, self._earlier, self._clock = stop or Stop(), sign, tuple(earlier), clock
        self._carry = carry
        self._began = clock() - history.elapsed_s
        self._unfinished = list(history.pending)
        self._lock = threading.RLock()
        self.over = ""  # why no more is asked, where it is not the count

    @property
    def observations(self) -> tuple[Observation, ...]:
        return self._history.observations

    @property
    def history(self) -> History:
        return self._history

    @property
    def count(self) -> int:
        return self._count

    @property
    def is_open(self) -> bool:
        """Whether there is, or may be, something left to evaluate."""
        with self._lock:
            return not self._is_enough() and len(self._history.observations) < self._count

    def ask(self) -> Params | None:
        """The next point, which is pending from now on; None when no more is to be evaluated."""
        with self._lock:
            if self.over or self._is_enough():
                return None
            if self._unfinished:
                return self._unfinished.pop(0)
            seen = self._history.observations
            if self._carry:
                seen = tuple(carried_on(seen, self._history.reports))
            if len(seen) + len(self._history.pending) >= self._count:
                return None
            point = self._propose([*self._earlier, *seen], self._history.pending)
            if point is None:
                self.over = EXHAUSTED
                return None
            self._history.ask(point)
            return point

    def tell(self, observation: Observation) -> None:
        with self._lock:
            self._history.tell(observation, self._clock() - self._began)

    def report(self, params: Params, step: int, value: float) -> None:
        """A value on the way."""
        with self._lock:
            self._history.report(params, step, value)

    def drop(self, params: Params) -> None:
        """A point will not be evaluated after all."""
        with self._lock:
            self._history.drop(params)

    def halt(self, reason: str) -> None:
        """Nothing more is asked."""
        with self._lock:
            self.over = self.over or reason

    def nothing(self) -> InputError:
        """Why not one point was asked for."""
        if self.over != EXHAUSTED:
            return input_error("stop", f"{self.over} before anything was evaluated", "give the search more")
        if self._earlier:
            return input_error("warm_start", "has every point of this space", "leave it out, or widen the space")
        return input_error("strategy", "proposes no point of this space", "take another one")

    def _is_enough(self) -> bool:
        seen = self._history.observations
        if len(seen) >= HOPELESS and all(one.failed for one in seen):
            self.over = f"the first {len(seen)} evaluations all failed"
        else:
            self.over = reason_to_stop(self._stop, seen, self._clock() - self._began, self._sign)
        return bool(self.over)
