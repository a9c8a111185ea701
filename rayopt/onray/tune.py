"""A Crew of Ray Tune trials: long-lived, one for each CPU, pulling cells from a mailbox until they are sent home.

The data go into the object store once. A trial whose process dies is started again by Tune and reports anew, which is
how its loss is known. On a Ray that somebody else has started the crew waits a while for the next search.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import secrets
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from rayopt.backend import Backend
from rayopt.errors import WorkError
from rayopt.onray import kept
from rayopt.onray.backend import OnRay
from rayopt.search.cells import Batch, Cell, dump
from rayopt.search.crew import Answered, Crew, Event, Hands, Joined, Lost

IDLE_S = 30.0  # how long a crew on somebody else's Ray waits for the next search
PULL_S = 20.0
UNFIT = 5


class Mailbox:
    """An actor between driver and trials: cells for each worker, events for the driver."""

    def __init__(self) -> None:
        self._cells: dict[str, deque[Any]] = {}
        self._lives: dict[str, int] = {}
        self._alive: set[str] = set()
        self._taken: dict[str, float] = {}
        self._events: list[Event] = []
        self._round: tuple[int, Any, float | None] = (0, None, None)
        self._changed = asyncio.Condition()
        self._is_closed = False
        self._heard = time.monotonic()

    async def join(self, worker: str) -> int:
        """A worker is there; one of that name before it is not any more. Gives which life of it this is."""
        async with self._changed:
            self._bury(worker)
            self._lives[worker] = self._lives.get(worker, 0) + 1
            self._alive.add(worker)
            name = _life(worker, self._lives[worker])
            self._cells[worker] = deque()
            self._events.append(Joined(name))
            self._changed.notify_all()
            return self._lives[worker]

    async def lost(self, worker: str) -> None:
        """Tune says that the worker's process is gone; it will come again."""
        async with self._changed:
            self._bury(worker)
            self._changed.notify_all()

    async def pull(self, worker: str, life: int, answers: Any) -> Any:
        """Takes results (round, answers) or None; gives (round, batch reference, deadline, cells), None at the end."""
        async with self._changed:
            if answers is not None:
                self._events.append(Answered(_life(worker, life), *answers))
                self._changed.notify_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PULL_S):
                    await self._changed.wait_for(lambda: self._cells[worker] or self._is_closed)
            if self._is_closed or self._lives[worker] != life or time.monotonic() - self._heard > IDLE_S + PULL_S:
                return None
            if not self._cells[worker]:
                return (*self._round, b"")
            self._taken[worker] = time.monotonic()
            return (*self._round, self._cells[worker].popleft())

    async def tell(self, worker: str, life: int, answers: Any) -> None:
        """Results of a part of what a worker has in hand."""
        async with self._changed:
            self._events.append(Answered(_life(worker, life), *answers))
            self._changed.notify_all()

    async def start(self, number: int, batch: Any, deadline_s: float | None) -> None:
        """A round begins: what was left of the one before is void; workers that are there report again."""
        async with self._changed:
            self._round = (number, batch, deadline_s)
            for cells in self._cells.values():
                cells.clear()
            self._events = [
                Joined(_life(worker, life)) for worker, life in self._lives.items() if worker in self._alive
            ]
            self._heard = time.monotonic()
            self._changed.notify_all()

    async def exchange(self, assigned: Sequence[tuple[str, bytes]], timeout_s: float) -> list[Event]:
        """Takes cells by worker, and gives what has happened, after `timeout_s` at the latest."""
        async with self._changed:
            self._heard = time.monotonic()
            for name, cells in assigned:
                worker, _, life = name.rpartition("#")
                if worker in self._alive and self._lives[worker] == int(life):
                    self._cells[worker].append(cells)
            if assigned:
                self._changed.notify_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait_for(lambda: bool(self._events))
            events, self._events = self._events, []
            return events

    def _bury(self, worker: str) -> None:
        """Tells the driver that a worker is gone, once."""
        if worker in self._alive:
            self._alive.remove(worker)
            busy_s = time.monotonic() - self._taken.pop(worker) if worker in self._taken else 0.0
            self._events.append(Lost(_life(worker, self._lives[worker]), "its process died", busy_s))

    async def close(self) -> None:
        async with self._changed:
            self._is_closed = True
            self._changed.notify_all()


def _life(worker: str, life: int) -> str:
    return f"{worker}#{life}"


class TuneCrew:
    """The driver's end of the mailbox, and the thread in which Tune runs. `backend` is closed with it where given."""

    def __init__(self, backend: Backend | None = None, cpus: int | None = None) -> None:
        self._backend = backend
        self._is_kept = backend is None
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        self.count = cpus or max(1, int(sum(node["Resources"].get("CPU", 0) for node in nodes if node["Alive"])))
        self.name = f"{self.count} Ray Tune trials"
        self.session = ray.get_runtime_context().get_job_id()
        self._mailbox: Any = ray.remote(Mailbox).options(num_cpus=0, max_concurrency=1000).remote()
        self._batch: Any = None
        self._assigned: list[tuple[str, bytes]] = []
        self._failure: BaseException | None = None
        self._is_closed = False
        self._given: set[str] = set()
        self._unfit = 0
        self._idle: threading.Timer | None = None
        self._pending: Any = None
        self._tune = threading.Thread(target=self._run_tune, daemon=True, name="tune")
        self._tune.start()

    @property
    def is_fit(self) -> bool:
        return not self._is_closed and self._failure is None and self._tune.is_alive()

    def start(self, number: int, batch: Batch, deadline_s: float | None) -> None:
        self._stay()
        self._batch = ray.put(batch)  # arrays in it are shared by all workers of a machine
        self._assigned, self._pending = [], None
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
        if self._is_kept and self.is_fit:
            self._stay()
            self._idle = threading.Timer(IDLE_S, self.end)
            self._idle.daemon = True
            self._idle.start()
            kept.keep(self)
        else:
            self.end()

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

    def _stay(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _run_tune(self) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="rayopt-tune-") as folder, _quiet_tune():
                _tuner(self._mailbox, self.count, folder).fit()
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
            crew = TuneCrew()
        return crew


_HIRING = threading.Lock()


@contextlib.contextmanager
def _quiet_tune() -> Iterator[None]:
    """Tune prints nothing and writes no snapshots: what the search has found is kept elsewhere."""
    wanted = {
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "3600",
        "TUNE_WARN_THRESHOLD_S": "3600",
    }
    mine = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(mine)
    log = logging.getLogger("ray.tune")
    level = log.level
    log.setLevel(logging.CRITICAL)  # that a trial died is told by the search
    try:
        yield
    finally:
        log.setLevel(level)
        for name in mine:
            os.environ.pop(name, None)


def _tuner(mailbox: Any, count: int, folder: str) -> Any:
    from ray import tune
    from ray.tune import FailureConfig, RunConfig, TuneConfig, Tuner
    from ray.tune.progress_reporter import TrialProgressCallback
    from ray.tune.search import Searcher

    class Numbers(Searcher):
        """Gives every trial its number; what they find is not Tune's to judge."""

        def __init__(self) -> None:
            super().__init__()
            self._given = 0

        def suggest(self, trial_id: str) -> Any:
            if self._given >= count:
                return Searcher.FINISHED
            self._given += 1
            return {"worker": f"trial {self._given}"}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None: ...

        def save(self, checkpoint_path: str) -> None: ...

        def restore(self, checkpoint_path: str) -> None: ...

    class Losses(TrialProgressCallback):
        """Tells the mailbox of trials whose process died, before they are there again; and prints nothing."""

        def __init__(self) -> None: ...

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None: ...

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None: ...

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None: ...

        def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            mailbox.lost.remote(trial.config["worker"])

    serve = tune.with_resources(tune.with_parameters(_serve, mailbox=mailbox), {"CPU": 1})
    return Tuner(
        serve,
        tune_config=TuneConfig(search_alg=Numbers(), num_samples=count, max_concurrent_trials=count, reuse_actors=True),
        run_config=RunConfig(
            name=f"search-{secrets.token_hex(4)}",
            storage_path=folder,
            verbose=0,
            failure_config=FailureConfig(max_failures=-1),
            callbacks=[Losses()],
        ),
    )


def _serve(config: dict[str, Any], mailbox: Any) -> None:
    """A trial: cells from the mailbox, results back, until it is told that there are none any more."""
    import sklearn.model_selection  # noqa: F401 - a worker that has joined is ready

    worker = config["worker"]
    batches: dict[int, Any] = {}
    hands = Hands(lambda number: ray.get(batches[number]))
    life = ray.get(mailbox.join.remote(worker))
    told = None
    while True:
        work = ray.get(mailbox.pull.remote(worker, life, told))
        told = None
        if work is None:
            return
        number, reference, deadline_s, content = work
        if not content:
            continue
        if number not in batches:
            batches = {number: reference[0]}
        meant, cells = pickle.loads(content)  # noqa: S301 - of the driver's own making
        if meant != number:
            continue
        for answers in hands.work(number, cells, deadline_s):
            if told is not None:
                mailbox.tell.remote(worker, life, told)
            told = (number, answers)
