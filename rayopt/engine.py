"""The driver's loop: asks the plan what to do, the cache whether it is done, and the backend to do it."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from rayopt.backend import Backend, Call, Handle, Raised, Report, Returned
from rayopt.errors import StepError
from rayopt.plan import (
    Done,
    Event,
    Failed,
    Finish,
    Grown,
    Instruction,
    Interrupted,
    Lost,
    Node,
    OutOfBudget,
    Plan,
    Record,
    Run,
)
from rayopt.records import ONE_CPU, Need
from rayopt.runs.cache import Cache, Entry
from rayopt.runs.folder import RunFolder
from rayopt.search.hire import Open
from rayopt.search.hosts import TrialHost
from rayopt.watch import Watcher

if TYPE_CHECKING:
    from rayopt.training.seat import Host


@dataclass(frozen=True)
class Of:
    """An argument that stands for the result of another task."""

    id: str


@dataclass(frozen=True)
class Task:
    """A node of the plan and what it computes.

    An ordinary task is `function(*args)`. Exclusive tasks that may run together share `function`, `args` and `where`
    and are called as `function(ids, *args, *each)`, which gives a result (or StepError) by id.
    `key` names the result by the content of what goes into it, given the results of the tasks it depends on.
    `where` says on which machines it may run, as `Call.where` does.
    """

    node: Node
    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    key: Callable[[Mapping[str, Any]], str]
    each: Of | None = None
    need: Need = ONE_CPU
    where: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> Iterator[str]:
        """The ids of the tasks whose results it is given."""
        for argument in (*self.args, self.each):
            if isinstance(argument, Of):
                yield argument.id


@dataclass(frozen=True)
class Ended:
    """How one task ended; `because_of` is the task that it was waiting for when that one failed."""

    id: str
    status: str
    value: Any = None
    reason: str = ""
    because_of: str = ""
    cached: bool = False


class Codec(Protocol):
    """Results to cache entries and back."""

    def encode(self, value: Any) -> Entry: ...

    def decode(self, entry: Entry) -> Any: ...


@dataclass(frozen=True)
class Desk:
    """What a kind of job is given to work with; `where` says on which machines its timings are taken.

    open_crew: makes the workers of a search, None where all is done in this process; ray_runs: whether their Ray is
    there already. open_host: makes what trains with several workers, given what each of them asks for and how they
    share a model; it stays open for the run's next training. open_trials: starts what runs whole trials of a search,
    given a limit of seconds for each. None where there is this process alone.
    """

    open_backend: Callable[[], Backend]
    where: str
    cache: Cache
    watcher: Watcher
    folder: RunFolder
    open_crew: Open | None = None
    ray_runs: bool = False
    open_host: Callable[[Mapping[str, float], str], Host] | None = None
    open_trials: Callable[[float | None], TrialHost] | None = None


@dataclass
class Engine:
    """Carries out a plan. The backend is made when the first call is not in the cache, and not before.

    `values` are the results by id. The files of those that the cache holds stay on disk until they are asked for, and
    what the machines hold of a result goes once no task is left that is given it.
    """

    open_backend: Callable[[], Backend]
    cache: Cache
    codec: Codec
    watcher: Watcher
    shared: Any = None
    code: str = ""
    clock: Callable[[], float] = time.monotonic
    values: dict[str, Any] = field(default_factory=dict)
    _tasks: dict[str, Task] = field(default_factory=dict)
    _handles: dict[str, Handle] = field(default_factory=dict)
    _users: Counter[str] = field(default_factory=Counter)  # how many tasks that have not ended are given a result
    _backend: Backend | None = None
    _shared_handle: Handle | None = None
    _batches: dict[str, Run] = field(default_factory=dict)
    _cached: set[str] = field(default_factory=set)
    _until: float | None = None

    def run(
        self,
        tasks: Iterable[Task],
        on_end: Callable[[Ended], None],
        grow: Callable[[], list[Task]],
        seconds: float | None = None,
    ) -> None:
        """Runs every task, tells `on_end` of each, and asks `grow` for more whenever there is nothing left.

        After `seconds` nothing more is started but what is to run always and timings; the rest is skipped.
        KeyboardInterrupt comes out once what had finished is recorded. The backend is left open; call `close`.
        """
        self._until = None if seconds is None else self.clock() + seconds
        self.cache.hold()
        first = list(tasks)
        self._learn(first)
        plan = Plan((task.node for task in first), room=1)
        todo = plan.start()
        while True:
            try:
                if not self._carry_out(todo, plan, on_end):
                    more = grow()
                    if not more:
                        return
                    self._learn(more)
                    todo = plan.handle(Grown(tuple(task.node for task in more)))
                    continue
                todo = self._wait(plan)
            except KeyboardInterrupt:
                self._save_finished(plan, on_end)
                raise

    def close(self) -> None:
        if self._backend is not None:
            self._backend.close()
            self._backend = None
        self._handles.clear()
        self._shared_handle = None

    def _learn(self, tasks: list[Task]) -> None:
        for task in tasks:
            self._tasks[task.node.id] = task
            self._users.update(task.parts)
        self.watcher.planned(len(self._tasks))

    def _carry_out(self, todo: list[Instruction], plan: Plan, on_end: Callable[[Ended], None]) -> bool:
        """Follows instructions, and those that follow from results in the cache; False once the plan is finished."""
        queue = deque(todo)
        while queue:
            instruction = queue.popleft()
            if isinstance(instruction, Record):
                self._record(instruction, on_end)
            elif isinstance(instruction, Run):
                for event in self._run(instruction):
                    queue += plan.handle(event)
                queue += self._resize(plan)
            elif isinstance(instruction, Finish):
                return False
        return True

    def _resize(self, plan: Plan) -> list[Instruction]:
        """Tells the plan how many calls the machines have room for, once there are machines, and when they change."""
        room = plan.room if self._backend is None else self._backend.room
        return [] if room is None or room == plan.room else plan.resize(room)

    def _record(self, record: Record, on_end: Callable[[Ended], None]) -> None:
        for id in self._tasks[record.id].parts:
            self._users[id] -= 1
            if self._users[id] <= 0:
                self._handles.pop(id, None)
        value, cached = self.values.get(record.id), record.id in self._cached
        ended = Ended(record.id, record.status, value, record.reason, record.because_of, cached)
        self.watcher.ended(record.id, self._tasks[record.id].name, record.status, record.reason, cached)
        on_end(ended)

    def _run(self, run: Run) -> list[Event]:
        """Starts a call, for what of it is not in the cache; what is gives its events at once."""
        events: list[Event] = []
        missing = []
        for id in run.ids:
            entry = self.cache.get(self._tasks[id].key(self.values))
            if entry is None:
                missing.append(id)
                continue
            self.values[id] = self.codec.decode(entry)
            self._cached.add(id)
            events.append(Done(id, run.attempt))
        if missing:
            self._submit(Run(tuple(missing), run.attempt, run.exclusive))
        return events

    def _submit(self, run: Run) -> None:
        backend, ids = self._open(), run.ids
        first = self._tasks[ids[0]]
        need = replace(first.need, limit_s=sum(self._tasks[id].need.limit_s for id in ids))
        args = tuple(self._argument(argument) for argument in first.args)
        name = first.name
        if run.exclusive:
            args = (ids, *args, *[self._argument(self._tasks[id].each) for id in ids])
            name = first.name if len(ids) == 1 else f"{first.name} and {len(ids) - 1} more"
        call_id = f"{ids[0]}/{run.attempt}"
        self._batches[call_id] = run
        for id in ids:
            self.watcher.started(id, self._tasks[id].name)
        call = Call(call_id, name, first.function, args, need, run.exclusive, self.code, first.where)
        handle = backend.submit(call)
        if not run.exclusive and self._users[ids[0]] > 0:
            self._handles[ids[0]] = handle

    def _argument(self, argument: Any) -> Any:
        backend = self._open()
        if isinstance(argument, Of):
            handle = self._handles.get(argument.id)
            if handle is None:
                handle = self._handles[argument.id] = backend.put(self.values[argument.id])
            return handle
        if argument is self.shared and argument is not None:
            self._shared_handle = self._shared_handle or backend.put(argument)
            return self._shared_handle
        return argument

    def _open(self) -> Backend:
        if self._backend is None:
            start = time.perf_counter()
            self._backend = self.open_backend()
            self.watcher.backend_started(self._backend.name, self._backend.dashboard, time.perf_counter() - start)
        return self._backend

    def _wait(self, plan: Plan) -> list[Instruction]:
        todo = self._resize(plan)
        reports = self._open().wait(timeout_s=0.5)
        if self._until is not None and self.clock() >= self._until:
            self._until = None
            todo += plan.handle(OutOfBudget())
        for report in reports:
            for event in self._events(report):
                todo += plan.handle(event)
        return todo

    def _events(self, report: Report) -> list[Event]:
        """What a call's end means for each node that was in it; results go into the cache."""
        run = self._batches.pop(report.id)
        if isinstance(report, Returned):
            self.watcher.note(f"worked from {report.began:.3f} to {report.ended:.3f}: {report.id}")
            results = report.value if run.exclusive else {run.ids[0]: report.value}
            return [self._result(id, results[id], run.attempt) for id in run.ids]
        if isinstance(report, Raised):
            self.watcher.note(report.trace)
            if len(run.ids) == 1:
                return [Failed(run.ids[0], report.reason, run.attempt)]
        else:
            self._forget_lost_handles(run.ids)
            self.watcher.note(f"{', '.join(self._tasks[id].name for id in run.ids)}: {report.reason}")
        return [Lost(id, report.reason, run.attempt) for id in run.ids]

    def _result(self, id: str, value: Any, attempt: int) -> Event:
        if isinstance(value, StepError):
            return Failed(id, str(value), attempt)
        self.values[id] = value
        stored = self.cache.put(self._tasks[id].key(self.values), self.codec.encode(value))
        if stored is not None and stored.files:
            self.values[id] = self.codec.decode(stored)
        return Done(id, attempt)

    def _forget_lost_handles(self, ids: tuple[str, ...]) -> None:
        """What a lost call was given may be lost with it: the driver's own copies are sent again."""
        for id in ids:
            self._handles.pop(id, None)
            for part in self._tasks[id].parts:
                self._handles.pop(part, None)

    def _save_finished(self, plan: Plan, on_end: Callable[[Ended], None]) -> None:
        """What ended before the interrupt but was not yet heard of is recorded before the run stops."""
        todo = plan.handle(Interrupted())
        for report in self._backend.drain() if self._backend else []:
            for event in self._events(report):
                todo += plan.handle(event)
        for instruction in todo:
            if isinstance(instruction, Record):
                self._record(instruction, on_end)
