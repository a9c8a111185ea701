"""The driver's side of a search: it evaluates cells itself at once, and has others join where they pay.

Child processes join when what is left would take longer than they need to start, a Ray that has to be started when it
would take several times as long, and one that runs already as soon as it is there.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rayopt.errors import InputError, WorkError
from rayopt.search.cells import Batch, Broken, Cell, Evaluator, Own, Result, check_travels, read, without_score
from rayopt.search.crew import Answered, Crew, Event, Joined, Lost
from rayopt.search.ledger import Ledger
from rayopt.search.prefixes import group_of
from rayopt.search.processes import Processes
from rayopt.search.store import Store

HERE = "here"
PROCESSES_PAY_S = 2.5  # seconds of work left from which child processes are started; they need about 1.2 to join
RAY_PAYS_S = 20.0  # the same for a Ray that does not run yet, which needs 5 and a good part of the CPUs meanwhile
CHUNK_S = 0.1
WAIT_S = 0.02


@dataclass(frozen=True)
class Means:
    """Who may evaluate cells.

    open_ray: makes the crew of a Ray, None for none; ray_runs: whether that one is there already. deadline_s: how long
    one evaluation may take; needs a crew, as this process cannot be ended. in_process: everything in this process.
    """

    open_ray: Callable[[], Crew] | None = None
    ray_runs: bool = False
    in_process: bool = False
    deadline_s: float | None = None
    share_prefixes: bool = True
    own: Own = field(default_factory=Own)
    cpus: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))


class Progress:
    """Is told what a search does; all of it may be left out. Called from one thread at a time."""

    def round_read(self, cells: Sequence[Cell]) -> None:
        """A round with these cells begins."""

    def crew_joined(self, name: str, seconds: float) -> None:
        """Others evaluate too, so many seconds after they were called."""

    def cell_ended(self, cell: Cell, result: Result, cached: bool, left_s: float | None) -> None:
        """A cell has its result; the rest takes about `left_s` (None: not known yet)."""

    def note(self, text: str) -> None:
        """Something for the log."""


class Growth:
    """A round whose candidates are not all known when it begins."""

    def after(self, cell: Cell, result: Result) -> Sequence[Mapping[str, Any]]:
        """The parameters of further candidates, now that a cell has its result. Called from one thread at a time."""
        return ()

    def to_come(self) -> int:
        """How many more candidates there may be."""
        return 0


class Runner:
    """Evaluates the rounds of one search; to be closed after it. Stands where scikit-learn has its joblib.Parallel."""

    def __init__(
        self,
        means: Means,
        store: Store | None = None,
        progress: Progress | None = None,
        growth: Growth | None = None,
    ) -> None:
        self._means, self._store = means, store
        self._progress, self._growth = progress or Progress(), growth or Growth()
        self._number = 0
        self.evaluated = {"here": 0, "crews": 0, "cached": 0}
        self._hires: dict[str, _Hire] = {}

    def __call__(self, calls: Iterable[tuple[Any, tuple[Any, ...], dict[str, Any]]]) -> list[Result]:
        """The results of a round, in the order of its calls; raises what an evaluation raised."""
        batch, cells = read(calls, self._means.share_prefixes, self._means.own)
        if not cells:
            return []
        self._number = next(_NUMBERS)
        self._progress.round_read(cells)
        about = (self._means, self._store, self._progress, self._growth, self._hires)
        with _Round(self._number, batch, cells, *about) as now:
            try:
                now.run()
            finally:
                for name, count in now.evaluated.items():
                    self.evaluated[name] += count
        return [now.results[cell.index] for cell in cells]

    def close(self) -> None:
        for hire in self._hires.values():
            hire.close()
        self._hires.clear()


def _numbers() -> Iterator[int]:
    """Rounds are numbered through the life of the process: a crew may serve several searches."""
    number = 0
    while True:
        number += 1
        yield number


_NUMBERS = _numbers()


class _Hire:
    """A crew that is being called, in a thread of its own, which lasts as long as the crew.

    Linux ends the processes of a Ray when the thread that has started them ends, not the process.
    """

    def __init__(self, open_crew: Callable[[], Crew]) -> None:
        self._start = time.monotonic()
        self.crew: Crew | None = None
        self.error: BaseException | None = None
        self.seconds = 0.0
        self.is_told = False
        self._open_crew = open_crew
        self._closed = False
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._call, daemon=True)
        self._thread.start()

    def _call(self) -> None:
        try:
            crew = self._open_crew()
        except BaseException as error:  # noqa: BLE001 - the search goes on without them, or raises it
            self.error = error
            return
        with self._lock:
            self.crew = crew
            if self._closed:
                crew.close()
                return
        self._over.wait()

    def joined(self) -> float:
        """Seconds from the call until now."""
        return time.monotonic() - self._start

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self.crew is not None:
                self.crew.close()
        self._over.set()


class _Round:
    """One round: a ledger under a lock, this thread that evaluates and decides, and a thread for each crew."""

    def __init__(
        self,
        number: int,
        batch: Batch,
        cells: Sequence[Cell],
        means: Means,
        store: Store | None,
        progress: Progress,
        growth: Growth,
        hires: dict[str, _Hire],
    ) -> None:
        self._number, self._batch, self._cells, self._means = number, batch, list(cells), means
        self._store, self._progress, self._growth, self._hires = store, progress, growth, hires
        self.results: dict[int, Result] = {}
        self.evaluated = {"here": 0, "crews": 0, "cached": 0}
        self._lock = threading.Condition(threading.RLock())
        self._seconds = self._timed = 0.0
        self._assigned: dict[str, float] = {}
        self._members: dict[str, set[str]] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._dismissed: set[str] = set()
        self._raised: BaseException | None = None
        self._over = False
        self._news: deque[tuple[Cell, Result]] = deque()
        self._ledger = Ledger({})
        self._may_evaluate_here, self._travels = self._rules()

    def __enter__(self) -> _Round:
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._over = True
            self._lock.notify_all()
        for thread in self._threads.values():
            thread.join()

    def run(self) -> None:
        """Evaluates what is not in the store; raises what an evaluation raised, first come."""
        waiting = self._from_store(self._cells)
        with self._lock:
            self._ledger.add(self._grouped(waiting))
        evaluator = Evaluator(self._batch)
        if self._means.ray_runs and not self._is_finished():
            self._call("ray", self._means.open_ray)
        with _one_thread():
            while not self._is_finished() and self._raised is None:
                self._consider()
                cell = self._next_here()
                if cell is None:
                    with self._lock:
                        if not self._ledger.is_finished and self._raised is None:
                            self._lock.wait(WAIT_S)
                    continue
                start = time.perf_counter()
                result = evaluator(cell)
                self._take_in(HERE, [(cell.index, result)], time.perf_counter() - start)
        if self._raised is not None:
            raise self._raised

    def _rules(self) -> tuple[bool, bool]:
        """Whether cells may be evaluated in this process, and whether they may be in others."""
        means = self._means
        if means.in_process and means.deadline_s is None:
            return True, False
        try:
            is_own = check_travels(self._batch, self._cells)
        except InputError:
            if means.open_ray is not None or means.deadline_s is not None:
                raise
            return True, False
        here = (is_own or means.open_ray is None) and means.deadline_s is None
        return here, True

    def _is_finished(self) -> bool:
        with self._lock:  # what a result adds is added before the lock is free
            return self._ledger.is_finished

    def _from_store(self, cells: Sequence[Cell]) -> list[Cell]:
        """The cells that have no result yet."""
        waiting = []
        for cell in list(cells):
            result = self._store.get(self._batch, cell) if self._store else None
            if result is None:
                waiting.append(cell)
                continue
            self.results[cell.index] = result
            self.evaluated["cached"] += 1
            self._progress.cell_ended(cell, result, True, None)
            self._grow(cell, result)
        return waiting

    def _grow(self, cell: Cell, result: Result) -> None:
        """Takes in the candidates that follow from a result; those of them in the store have results at once."""
        with self._lock:
            self._news.append((cell, result))
            if len(self._news) > 1:  # whoever is at it goes on with this one
                return
            while self._news:
                for parameters in self._growth.after(*self._news[0]):
                    first, candidate = len(self._cells), self._cells[-1].candidate + 1
                    more = [Cell(first + fold, candidate, fold, parameters) for fold in range(len(self._batch.splits))]
                    self._cells += more
                    self._ledger.add(self._grouped(self._from_store(more)))
                self._news.popleft()

    def _grouped(self, cells: Sequence[Cell]) -> dict[Hashable, list[int]]:
        """Cells that share the beginning of a pipeline, fold by fold; all in one group where nothing is shared."""
        groups: dict[Hashable, list[int]] = {}
        for cell in cells:
            prefix = group_of(self._batch.estimator, cell.parameters) if self._batch.share_prefixes else ""
            groups.setdefault(f"{prefix} on fold {cell.fold}" if prefix else "", []).append(cell.index)
        return groups

    def _next_here(self) -> Cell | None:
        with self._lock:
            if not self._may_evaluate_here or len(self._workers()) >= self._means.cpus:
                return None
            if self._ledger.waiting_count <= len(self._workers()) and self._mean_s > 1 and self._workers():
                return None  # the last ones: a worker that is free in a moment must not wait for this process
            taken = self._ledger.take(HERE, 1, suspects=set(self._threads) <= self._dismissed)
            return self._cells[taken[0]] if taken else None

    def _workers(self) -> list[str]:
        return [worker for members in self._members.values() for worker in members]

    @property
    def _mean_s(self) -> float:
        return self._seconds / self._timed if self._timed else 0.0

    def _left_s(self) -> float | None:
        """About how long the rest takes those who are at it."""
        if not self._timed:
            return None
        hands = max(1, len(self._workers()) + (self._may_evaluate_here and len(self._workers()) < self._means.cpus))
        return self._mean_s * (self._ledger.open_count + self._growth.to_come() * len(self._batch.splits)) / hands

    def _consider(self) -> None:
        """Calls whom it pays to call, and takes in those who have come."""
        if not self._travels:
            return
        means = self._means
        left = self._left_s() if self._may_evaluate_here else math.inf
        if left is not None and not means.ray_runs:
            count = means.cpus - self._may_evaluate_here
            if count and left > PROCESSES_PAY_S and (means.open_ray is None or self._may_evaluate_here):
                self._call("processes", lambda: Processes(count))
            if means.open_ray is not None and (left > RAY_PAYS_S or not self._may_evaluate_here):
                self._call("ray", means.open_ray)
        for name, hire in self._hires.items():
            if hire.error is not None:
                self._do_without(name, hire)
            elif hire.crew is not None and name not in self._threads and name not in self._dismissed:
                self._threads[name] = threading.Thread(target=self._serve, args=(name, hire), daemon=True)
                self._threads[name].start()

    def _call(self, name: str, open_crew: Callable[[], Crew] | None) -> None:
        if open_crew is not None and name not in self._hires and name not in self._dismissed:
            self._hires[name] = _Hire(open_crew)

    def _do_without(self, name: str, hire: _Hire) -> None:
        """A crew that could not be had: an error where nobody else may do the work."""
        if not self._may_evaluate_here or isinstance(hire.error, InputError):
            assert hire.error is not None  # noqa: S101 - tells mypy what the caller has asked
            raise hire.error
        if name not in self._dismissed:
            self._dismissed.add(name)
            self._progress.note(f"{name} cannot be had: {hire.error}; the search goes on without it")

    def _serve(self, name: str, hire: _Hire) -> None:
        """The thread of one crew: hears it and keeps its workers busy."""
        crew = hire.crew
        assert crew is not None  # noqa: S101 - it is there when the thread is started
        try:
            crew.start(self._number, self._batch, self._means.deadline_s)
            while not self._over and not self._is_finished() and name not in self._dismissed:
                events = crew.wait(WAIT_S)
                with self._lock:
                    for event in events:
                        self._handle(name, hire, event)
                    for worker in self._members.get(name, ()):
                        self._feed(crew, worker)
            crew.finish()
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread of the search
            self._end_of_crew(name, error)
        if name in self._dismissed:
            hire.close()

    def _end_of_crew(self, name: str, error: BaseException) -> None:
        """A crew that cannot go on ends the search only where nobody else may do the work."""
        with self._lock:
            if self._may_evaluate_here and isinstance(error, WorkError):
                self._dismiss(name)
                self._progress.note(f"{name}: {error}; the search goes on without it")
            else:
                self._raised = self._raised or error
            self._lock.notify_all()

    def _handle(self, name: str, hire: _Hire, event: Event) -> None:
        if isinstance(event, Joined):
            self._welcome(name, hire, event.worker)
        elif isinstance(event, Answered):
            if event.number == self._number:
                now = time.monotonic()
                seconds = now - self._assigned.get(event.worker, now)
                self._assigned[event.worker] = now
                self._take_in(event.worker, event.answers, min(seconds, _told_seconds(event.answers)))
        elif isinstance(event, Lost):
            self._lose(name, event)

    def _welcome(self, name: str, hire: _Hire, worker: str) -> None:
        members = self._members.setdefault(name, set())
        members.add(worker)
        if not hire.is_told and hire.crew is not None:
            hire.is_told = True
            self._progress.crew_joined(hire.crew.name, hire.joined())
        if name == "ray" and len(members) >= self._means.cpus and "processes" in self._hires:
            self._dismiss("processes")

    def _dismiss(self, name: str) -> None:
        """Sends a crew away; what its workers hold is for others."""
        self._dismissed.add(name)
        for worker in self._members.pop(name, set()):
            self._ledger.give_back(worker)

    def _lose(self, name: str, event: Lost) -> None:
        self._members.get(name, set()).discard(event.worker)
        seconds = time.monotonic() - self._assigned.pop(event.worker, time.monotonic())
        seconds = seconds if event.busy_s is None else event.busy_s
        deadline = self._means.deadline_s
        late = deadline is not None and seconds >= deadline
        reason = f"the evaluation took longer than {deadline:g} s" if late else f"its worker died twice: {event.reason}"
        self._progress.note(f"{event.worker}: {event.reason}")
        for index in self._ledger.lose(event.worker, final=late):
            self._give_up(self._cells[index], reason, seconds)

    def _give_up(self, cell: Cell, reason: str, seconds: float) -> None:
        if self._batch.error_score == "raise":
            self._raised = self._raised or WorkError(f"{dict(cell.parameters)} on fold {cell.fold}: {reason}")
            self._lock.notify_all()
            return
        self._record(cell, without_score(self._batch, cell, reason, seconds))

    def _feed(self, crew: Crew, worker: str) -> None:
        """Gives a worker as much as keeps it busy for a moment, less near the end."""
        held, mean = self._ledger.in_hand(worker), self._mean_s
        want = 1
        if self._means.deadline_s is None and self._timed and mean < 0.3:
            share = self._ledger.waiting_count / (2 * max(1, len(self._workers())))
            want = max(1, min(math.ceil(CHUNK_S / mean) if mean else 64, math.ceil(share), 64))
        if held > want // 2 or (held and want == 1):
            return
        taken = self._ledger.take(worker, want)
        if taken:
            if not held:
                self._assigned[worker] = time.monotonic()
            crew.assign(worker, self._number, [self._cells[index] for index in taken])

    def _take_in(self, worker: str, answers: Sequence[tuple[int, Any]], seconds: float) -> None:
        with self._lock:
            self._seconds += seconds
            self._timed += len(answers)
            for index, result in answers:
                if isinstance(result, Broken):
                    self._raised = self._raised or result.error
                elif self._ledger.finish(worker, index):
                    self.evaluated["here" if worker == HERE else "crews"] += 1
                    if self._store:
                        self._store.put(self._batch, self._cells[index], result)
                    self._record(self._cells[index], result)
            self._lock.notify_all()

    def _record(self, cell: Cell, result: Result) -> None:
        self.results[cell.index] = result
        self._progress.cell_ended(cell, result, False, self._left_s())
        self._grow(cell, result)


def _told_seconds(answers: Sequence[tuple[int, Any]]) -> float:
    """What the evaluations themselves say that they took, plus a little for what is around them."""
    times = (one["fit_time"] + one["score_time"] + 0.0005 for _, one in answers if isinstance(one, Mapping))
    return float(sum(times))


def _one_thread() -> contextlib.AbstractContextManager[Any]:
    """BLAS and OpenMP compute with one thread, as in a worker: the same bits wherever a cell is evaluated."""
    from threadpoolctl import threadpool_limits

    limits: contextlib.AbstractContextManager[Any] = threadpool_limits(1)
    return limits
