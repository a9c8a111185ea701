"""A Crew of Ray Tune trials. The data go into the object store once.

On a Ray that somebody else has started the crew waits for the next search, until another needs its CPUs.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from rayopt.backend import Backend
from rayopt.errors import WorkError
from rayopt.onray import kept, trials
from rayopt.onray.backend import OnRay
from rayopt.onray.demand import others_wait
from rayopt.onray.mailbox import Mailbox
from rayopt.search.cells import Batch, Cell, dump
from rayopt.search.crew import Crew, Event, Lost

IDLE_S = 300.0  # how long a crew on somebody else's Ray waits for the next search
LOOK_S = 0.5  # how often it looks whether others wait for the CPUs that it holds
START_S = 30.0  # how long trials may take to be there after a search that has not needed them
UNFIT = 5


class TuneCrew:
    """The driver's end of the mailbox, and the thread in which Tune runs. `backend` is closed with it where given."""

    def __init__(self, backend: Backend | None = None, cpus: int | None = None) -> None:
        self._backend = backend
        self._is_kept = backend is None
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        self.count = cpus or max(1, int(sum(node["Resources"].get("CPU", 0) for node in nodes if node["Alive"])))
        self.name = f"{self.count} Ray Tune trials"
        self.session = ray.get_runtime_context().get_job_id()
        self._mailbox: Any = ray.remote(Mailbox).options(num_cpus=0, max_concurrency=1000).remote(IDLE_S)
        self._batch: Any = None
        self._assigned: list[tuple[str, bytes]] = []
        self._failure: BaseException | None = None
        self._is_closed = False
        self._given: set[str] = set()
        self._unfit = 0
        self._wanted = threading.Event()
        self._tune = threading.Thread(target=self._run_tune, daemon=True, name="tune")
        self._tune.start()

    @property
    def is_fit(self) -> bool:
        return not self._is_closed and self._failure is None and self._tune.is_alive()

    def start(self, number: int, batch: Batch, deadline_s: float | None) -> None:
        self._batch = ray.put(batch)  # arrays in it are shared by all workers of a machine
        self._assigned = []
        ray.get(self._mailbox.start.remote(number, [self._batch], deadline_s))

    def assign(self, worker: str, number: int, cells: Sequence[Cell]) -> None:
        self._given.add(worker)
        self._assigned.append((worker, dump((number, list(cells)))))

    def wait(self, timeout_s: float) -> list[Event]:
        """Asks the mailbox for `timeout_s` at a time, and at once where there is something to be handed over."""
        if self._failure is not None:
            raise WorkError(f"Ray Tune ended: {self._failure}") from self._failure
        assigned, self._assigned = self._assigned, []
        try:
            events: list[Event] = ray.get(self._mailbox.exchange.remote(assigned, timeout_s))
        except RayError as error:
            raise WorkError(f"the mailbox of the Ray Tune trials is gone: {error}") from error
        for event in events:
            self._judge(event)
        return events

    def _judge(self, event: Event) -> None:
        """Trials that die again and again before they have been given anything will not do better."""
        if isinstance(event, Lost):
            self._unfit = 0 if event.worker in self._given else self._unfit + 1
            self._given.discard(event.worker)
        if self._unfit > UNFIT * self.count:
            raise WorkError("Ray Tune trials die before they evaluate anything")

    def finish(self) -> None:
        """The round's data may go."""
        self._batch = None

    def close(self) -> None:
        """Sends everybody home, or lets them wait for the next search."""
        if not self._is_kept or not self.is_fit:
            self.end()
            return
        self._mailbox.start.remote(0, None, None)  # the data may go
        self._wanted.clear()
        kept.keep(self)
        threading.Thread(target=self._rest, daemon=True, name="resting crew").start()

    def stay(self) -> None:
        """The next search has come."""
        self._wanted.set()

    def _rest(self) -> None:
        """Waits for the next search, and leaves when that takes too long or others wait for the CPUs."""
        start = time.monotonic()
        with contextlib.suppress(Exception):  # of a Ray that is gone
            while not self._should_leave(time.monotonic() - start):
                if self._wanted.wait(LOOK_S):
                    return
        if kept.leave(self):
            self.end()

    def _should_leave(self, rested_s: float) -> bool:
        """As long as trials are still to come, it may be they that wait for CPUs."""
        if ray.get(self._mailbox.alive_count.remote()) < self.count:
            return rested_s > START_S
        return rested_s > IDLE_S or others_wait()

    def end(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        with contextlib.suppress(Exception):
            ray.get(self._mailbox.close.remote(), timeout=5)
        self._tune.join(10)
        with contextlib.suppress(Exception):
            ray.kill(self._mailbox)
        if self._backend is not None:
            self._backend.close()

    def _run_tune(self) -> None:
        try:
            trials.run(self._mailbox, self.count)
            if not self._is_closed:
                self._failure = WorkError("its trials ended before the search did")
        except BaseException as error:  # noqa: BLE001 - it is raised where the crew is waited for
            self._failure = error


def hire(address: str | None) -> Crew:
    """The crew that waits on the Ray that the caller has started, or a new one; else one on a Ray of its own.

    Raises WorkError where trials could never start.
    """
    if " " in sys.executable:  # Ray hands a worker with environment variables, as a trial is, to a shell unquoted
        raise WorkError(f"Ray Tune cannot start workers of {sys.executable}: its path has a space")
    if not ray.is_initialized():
        return TuneCrew(OnRay(address))
    with _HIRING:
        crew: TuneCrew | None = kept.take(TuneCrew)
        if crew is None or not crew.is_fit or crew.session != ray.get_runtime_context().get_job_id():
            return TuneCrew()
        crew.stay()
        return crew


_HIRING = threading.Lock()
