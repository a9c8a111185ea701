"""A Crew of Ray Tune trials. The data go into the object store once.

On a Ray that somebody else has started the crew waits for the next search, until another needs its CPUs. Nothing of it
lives in the driver: a thread that asked Ray for something after the caller has ended it would start another one.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from rayopt.backend import Backend
from rayopt.errors import InputError, WorkError
from rayopt.onray import kept
from rayopt.onray.backend import OnRay
from rayopt.onray.session import is_here, session
from rayopt.onray.trials import Lodge
from rayopt.search.cells import Batch, Cell, dump
from rayopt.search.crew import Crew, Event, Lost
from rayopt.search.hire import IsWanted, unwanted

ANSWER_S = 5.0  # for a lodge that waits to say so
GOODBYE_S = 15.0
UNFIT = 5


class TuneCrew:
    """The driver's end of the lodge in which Tune runs. `backend` is closed with it where given."""

    def __init__(self, backend: Backend | None = None, cpus: int | None = None) -> None:
        self._backend = backend
        self._is_kept = backend is None
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        self.count = cpus or max(1, int(sum(node["Resources"].get("CPU", 0) for node in nodes if node["Alive"])))
        self.name = f"{self.count} Ray Tune trials"
        self._session = session()
        lodge: Any = ray.remote(Lodge)
        self._lodge = lodge.options(num_cpus=0, max_concurrency=1000).remote(self.count)
        self._tune = self._lodge.tune.remote()
        self._batch: Any = None
        self._number = 0
        self._assigned: list[tuple[str, bytes]] = []
        self._is_closed = False
        self._given: set[str] = set()
        self._unfit = 0

    @property
    def is_fit(self) -> bool:
        """Whether the trials wait for a search still; they do so from now on."""
        if self._is_closed or not is_here(self._session):
            return False
        try:
            return bool(ray.get(self._lodge.stay.remote(), timeout=ANSWER_S))
        except RayError:
            return False

    def start(self, number: int, batch: Batch, deadline_s: float | None) -> None:
        if number == self._number:
            return
        self._batch = ray.put(batch)  # arrays in it are shared by all workers of a machine
        self._assigned = []
        ray.get(self._lodge.start.remote(number, [self._batch], deadline_s))
        self._number = number

    def assign(self, worker: str, number: int, cells: Sequence[Cell]) -> None:
        self._given.add(worker)
        self._assigned.append((worker, dump((number, list(cells)))))

    def wait(self, timeout_s: float) -> list[Event]:
        """Asks the lodge for `timeout_s` at a time, and at once where there is something to be handed over."""
        assigned, self._assigned = self._assigned, []
        try:
            events: list[Event] = ray.get(self._lodge.exchange.remote(assigned, timeout_s))
        except RayTaskError as error:
            raise WorkError(f"Ray Tune ended: {error.cause}") from error
        except RayError as error:
            raise WorkError(f"the process in which Ray Tune runs is gone: {error}") from error
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
        self._batch = None
        if not self._is_kept or self._is_closed or not is_here(self._session):
            self.end()
            return
        self._lodge.rest.remote()
        kept.keep(self)

    def end(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if is_here(self._session):
            with contextlib.suppress(Exception):  # of a lodge that is gone
                self._lodge.close.remote()
                ray.wait([self._tune], timeout=GOODBYE_S)
                ray.kill(self._lodge)
        if self._backend is not None:
            self._backend.close()


def hire(address: str | None, is_wanted: IsWanted = lambda: True) -> Crew:
    """The crew that waits on the Ray that the caller has started, or a new one; else one on a Ray of its own.

    Raises WorkError where trials could never start, and once they are not wanted any more.
    """
    if " " in sys.executable:  # Ray hands a worker with environment variables, as a trial is, to a shell unquoted
        raise WorkError(f"Ray Tune cannot start workers of {sys.executable}: its path has a space")
    if not is_wanted():
        raise unwanted()
    if not ray.is_initialized():
        return _on_a_ray_of_its_own(address, is_wanted)
    with _HIRING:
        waiting: TuneCrew | None = kept.take(TuneCrew)
        return waiting or TuneCrew()


def _on_a_ray_of_its_own(address: str | None, is_wanted: IsWanted) -> TuneCrew:
    try:
        backend = OnRay(address)
    except InputError as error:
        if address is not None:
            raise
        raise WorkError(str(error)) from error  # nobody has asked for this Ray: the search goes on without it
    try:
        if not is_wanted():
            raise unwanted()
        return TuneCrew(backend)
    except BaseException:
        backend.close()
        raise


_HIRING = threading.Lock()
