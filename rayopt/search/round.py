"""One round of a search: this process evaluates at once, and has others join where they pay.

Child processes join when what is left would take longer than they need to start, and at once for what may hang or end
the process that runs it; a Ray that has to be started when the rest would take several times as long as that, and one
that runs already as soon as it is there. As long as that gives nobody, the search goes on as if it did not run.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from typing import Any

from rayopt.errors import InputError, WorkError
from rayopt.search.book import HERE, Book, told_seconds
from rayopt.search.cells import Cell, Evaluator, check_travels
from rayopt.search.crew import Answered, Crew, Event, Joined, Lost
from rayopt.search.hire import Hire, Open
from rayopt.search.means import Means
from rayopt.search.processes import Processes

RAY, PROCESSES = "ray", "processes"
PROCESSES_PAY_S = 2.5  # seconds of work left from which child processes are started; they need about 1.2 to join
RAY_PAYS_S = 20.0  # the same for a Ray that does not run yet, which needs 5 and a good part of the CPUs meanwhile
CHUNK_S = 0.2
SHORT_S = 1.0  # a cell that takes longer is not given to a worker that has one: another may be free before
FIRST = 3  # cells for a worker as long as nobody knows what one takes
TRIP_S = 0.03  # from results to the next cells: what less work than that saves in waiting it costs in letters
ROOM_S = 20.0  # how long a Ray may take to give its first worker before others are called in its place
WAIT_S = 0.02
MOMENT_S = 0.1
LISTEN_S = 0.25  # where this process evaluates nothing itself, all news comes from the crew


class Round:
    """This thread evaluates and decides; each crew has a thread that hears it and keeps its workers busy."""

    def __init__(self, number: int, book: Book, means: Means, hires: dict[str, Hire]) -> None:
        self._number, self._book, self._means, self._hires = number, book, means, hires
        self._assigned: dict[str, float] = {}
        self._members: dict[str, set[str]] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._dismissed: set[str] = set()
        self._over = self._waits_told = False
        self._may_evaluate_here, self._travels = self._rules()

    def __enter__(self) -> Round:
        return self

    def __exit__(self, *error: object) -> None:
        with self._book.lock:
            self._over = True
            self._book.lock.notify_all()
        for thread in self._threads.values():
            thread.join()
        for name in self._dismissed & set(self._threads):
            if self._hires[name].crew is not None:
                self._hires.pop(name).close()  # in the next round they are called anew, if they are needed

    def run(self) -> None:
        """Evaluates what has no result; raises what an evaluation raised, first come."""
        book = self._book
        evaluator = Evaluator(book.batch)
        with _one_thread():
            if (self._means.ray_runs or self._means.ray_alone) and not book.is_over:
                self._call(RAY, self._means.open_ray)
                self._take_in()
                self._evaluate_here(evaluator)  # how long a cell takes may be known before others are given some
                self._await_workers(MOMENT_S)
            while not book.is_over:
                self._call_who_pays()
                self._take_in()
                if not self._evaluate_here(evaluator):
                    with book.lock:
                        if not book.is_over:
                            book.lock.wait(WAIT_S if self._worker_count < self._means.cpus else LISTEN_S)
        if book.raised is not None:
            raise book.raised

    def _evaluate_here(self, evaluator: Evaluator) -> bool:
        """Whether there was a cell for this process."""
        cell = self._next_here()
        if cell is None:
            return False
        start = time.perf_counter()
        result = evaluator(cell)
        seconds = time.perf_counter() - start
        self._book.take_in(HERE, HERE, [(cell.index, result)], seconds, self._hands)
        return True

    def _await_workers(self, seconds: float) -> None:
        """Those who have waited since the last search are there at once, and need not share their CPUs with us."""
        until = time.monotonic() + seconds
        while not self._worker_count and not self._book.is_over and (left := until - time.monotonic()) > 0:
            self._take_in()
            with self._book.lock:
                self._book.lock.wait(min(left, MOMENT_S / 50))

    def _rules(self) -> tuple[bool, bool]:
        """Whether cells may be evaluated in this process, and whether they may be in others."""
        means = self._means
        if means.in_process and means.deadline_s is None:
            return True, False
        try:
            is_own = check_travels(self._book.batch, self._book.cells)
        except InputError:
            if means.open_ray is not None or means.deadline_s is not None:
                raise
            return True, False
        here = (is_own or means.open_ray is None) and means.deadline_s is None and not means.ray_alone
        return here, True

    def _next_here(self) -> Cell | None:
        book, workers = self._book, self._worker_count
        with book.lock:
            last = workers and book.waiting_count <= workers and (book.mean_s or 0) > 1
            # The last ones: a worker that is free in a moment must not wait for this process.
            if not self._may_evaluate_here or workers >= self._means.cpus or last:
                book.give_back(HERE)
                return None
            taken = book.take(HERE, 1, suspects=set(self._threads) <= self._dismissed)
            return taken[0] if taken else None

    @property
    def _worker_count(self) -> int:
        return sum(map(len, list(self._members.values())))

    @property
    def _hands(self) -> int:
        workers = self._worker_count
        return max(1, workers + (self._may_evaluate_here and workers < self._means.cpus))

    def _call_who_pays(self) -> None:
        if not self._travels:
            return
        count, means = self._child_count, self._means
        if self._ray_is_late():
            self._tell_of_ray()
        if count and self._processes_pay():
            self._call(PROCESSES, lambda is_wanted: Processes(count))
        if not means.ray_runs and not means.ray_alone and self._is_left(RAY_PAYS_S):
            self._call(RAY, means.open_ray)

    @property
    def _child_count(self) -> int:
        return 0 if self._means.ray_alone else self._means.cpus - self._may_evaluate_here

    def _processes_pay(self) -> bool:
        """Where this process may evaluate nothing they are needed until a Ray has workers."""
        if not self._may_evaluate_here:
            return not self._members.get(RAY)
        return (not self._means.ray_runs or self._ray_is_late()) and self._is_left(PROCESSES_PAY_S)

    def _is_left(self, seconds: float) -> bool:
        left = self._book.left_s(self._hands)
        return left is not None and left > seconds

    def _ray_is_late(self) -> bool:
        """Whether a Ray that was called has given no worker for long, as one does that has no room for any."""
        hire, means = self._hires.get(RAY), self._means
        if hire is None or hire.is_told or hire.error is not None or not (means.ray_runs or means.ray_alone):
            return False
        return hire.joined() > ROOM_S

    def _tell_of_ray(self) -> None:
        if not self._waits_told:
            self._waits_told = True
            goes_on = "waits for it" if not self._others_than(RAY) else "goes on without it until then"
            why = "it may have no room for one"
            self._book.progress.note(f"Ray has given no worker for {ROOM_S:g} s, {why}; the search {goes_on}")

    def _take_in(self) -> None:
        """Has those who were called work as soon as they come, and does without those who cannot be had."""
        if not self._travels:
            return
        for name, hire in list(self._hires.items()):
            if hire.error is not None:
                self._do_without(name, hire)
            elif name not in self._threads and name not in self._dismissed:
                self._threads[name] = threading.Thread(target=self._serve, args=(name, hire), daemon=True)
                self._threads[name].start()

    def _call(self, name: str, open_crew: Open | None) -> None:
        if open_crew is not None and name not in self._hires and name not in self._dismissed:
            self._hires[name] = Hire(open_crew)

    def _do_without(self, name: str, hire: Hire) -> None:
        """A crew that could not be had: an error where nobody else may do the work."""
        if not self._others_than(name) or isinstance(hire.error, InputError):
            assert hire.error is not None  # noqa: S101 - tells mypy what the caller has asked
            raise hire.error
        if name not in self._dismissed:
            self._dismissed.add(name)
            self._book.progress.note(f"{name} cannot be had: {hire.error}; the search goes on without it")

    def _others_than(self, name: str) -> bool:
        """Whether the work is done without that crew too."""
        others = [hire for one, hire in self._hires.items() if one != name and one not in self._dismissed]
        to_be_called = name == RAY and PROCESSES not in self._hires and self._child_count > 0
        return self._may_evaluate_here or to_be_called or any(hire.error is None for hire in others)

    def _serve(self, name: str, hire: Hire) -> None:
        """The thread of one crew: waits for it, hears it and keeps its workers busy, whatever is evaluated here."""
        while not hire.awaited(WAIT_S):
            if self._over or name in self._dismissed:
                return
        crew = hire.crew
        if crew is None:
            return
        try:
            crew.start(self._number, self._book.batch, self._means.deadline_s)
            while not self._over and not self._book.is_over and name not in self._dismissed:
                evaluates_here = self._may_evaluate_here and self._worker_count < self._means.cpus
                events = crew.wait(WAIT_S if evaluates_here else LISTEN_S)
                with self._book.lock:
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
        with self._book.lock:
            if self._others_than(name) and isinstance(error, WorkError):
                self._dismiss(name)
                self._book.progress.note(f"{name}: {error}; the search goes on without it")
            else:
                self._book.fail(error)

    def _handle(self, name: str, hire: Hire, event: Event) -> None:
        if isinstance(event, Joined):
            self._welcome(name, hire, event.worker)
        elif isinstance(event, Answered):
            if event.number == self._number and hire.crew is not None:
                now = time.monotonic()
                seconds = min(now - self._assigned.get(event.worker, now), told_seconds(event.answers))
                self._assigned[event.worker] = now
                self._book.take_in(event.worker, hire.crew.name, event.answers, seconds, self._hands)
        elif isinstance(event, Lost):
            self._lose(name, event)

    def _welcome(self, name: str, hire: Hire, worker: str) -> None:
        members = self._members.setdefault(name, set())
        members.add(worker)
        self._book.lock.notify_all()
        if not hire.is_told and hire.crew is not None:
            hire.is_told = True
            self._book.progress.crew_joined(hire.crew.name, hire.joined())
        if name == RAY and len(members) >= self._means.cpus and PROCESSES in self._hires:
            self._dismiss(PROCESSES)

    def _dismiss(self, name: str) -> None:
        """Sends a crew away; what its workers hold is for others."""
        self._dismissed.add(name)
        for worker in self._members.pop(name, set()):
            self._book.give_back(worker)
        self._book.lock.notify_all()

    def _lose(self, name: str, event: Lost) -> None:
        self._members.get(name, set()).discard(event.worker)
        seconds = time.monotonic() - self._assigned.pop(event.worker, time.monotonic())
        self._book.progress.note(f"{event.worker}: {event.reason}")
        busy_s = seconds if event.busy_s is None else event.busy_s
        self._book.lose(event.worker, event.reason, busy_s, self._means.deadline_s)
        self._book.lock.notify_all()

    def _feed(self, crew: Crew, worker: str) -> None:
        """Gives a worker as much as keeps it busy for a moment and never lets it wait, less near the end."""
        held, want = self._book.in_hand(worker), self._wanted()
        if held > want // 2 or (held and want == 1):
            return
        taken = self._book.take(worker, want - held)
        if taken:
            if not held:
                self._assigned[worker] = time.monotonic()
            crew.assign(worker, self._number, taken)

    def _wanted(self) -> int:
        """How many cells a worker should have in hand. With a deadline one: which one took too long must be certain."""
        mean = self._book.mean_s
        if self._means.deadline_s is not None:
            return 1
        share = math.ceil(self._book.waiting_count / (2 * max(1, self._worker_count)))
        if mean is None:
            return min(FIRST, share)
        ahead = 64 if not mean else max(2, math.ceil(CHUNK_S / mean)) if mean < SHORT_S else 1
        least = math.ceil(TRIP_S / mean) if mean else 64  # less would be done before more has come
        return max(least if mean < TRIP_S else 1, min(ahead, share, 64))


def _one_thread() -> contextlib.AbstractContextManager[Any]:
    """BLAS and OpenMP compute with one thread, as in a worker: the same bits wherever a cell is evaluated."""
    from threadpoolctl import threadpool_limits

    limits: contextlib.AbstractContextManager[Any] = threadpool_limits(1)
    return limits
