"""What to do next, decided by a pure state machine: events in, instructions out; no clock, no I/O.

A plan is a forest of nodes. A node may run once its parent is done; the deepest go first, so that chains are finished
and what they made can be let go. Exclusive nodes (timings) run together in calls that have their machine to themselves,
between waves of other work. Two laws, held by simulation in the tests: what is done is recorded, and nothing is
recorded twice.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

Status = Literal["waiting", "running", "done", "failed", "skipped"]
Ended = Literal["done", "failed", "skipped"]
MAX_ATTEMPTS = 2
OUT_OF_BUDGET = "out of budget"  # why a node was skipped
MAX_TOGETHER = 64  # exclusive nodes in one call: what a killed run loses, and what one process has to hold


@dataclass(frozen=True)
class Node:
    """One piece of work; `parent` must be done before it can run. `always`: also when the budget is spent.

    `attempts`: how often it may be lost before it has failed.
    """

    id: str
    parent: str | None = None
    exclusive: bool = False
    always: bool = False
    attempts: int = MAX_ATTEMPTS


# Events: what happened. `attempt` is that of the Run which it comes from.
@dataclass(frozen=True)
class Done:
    """The work has a result; it counts whenever it is heard of."""

    id: str
    attempt: int = 1


@dataclass(frozen=True)
class Failed:
    """The work itself said no; it would say so again."""

    id: str
    reason: str
    attempt: int = 1


@dataclass(frozen=True)
class Lost:
    """The process or machine that ran it is gone; that says nothing about the work."""

    id: str
    reason: str
    attempt: int = 1


@dataclass(frozen=True)
class Grown:
    """More work has become known; the parents must be known already."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class OutOfBudget:
    """No new work may be started but what is to run always; what is done is still timed."""


@dataclass(frozen=True)
class Interrupted:
    """Stop now."""


Event = Done | Failed | Lost | Grown | OutOfBudget | Interrupted


# Instructions: what to do about it.
@dataclass(frozen=True)
class Run:
    """Start these in one call: a single node, or several exclusive ones."""

    ids: tuple[str, ...]
    attempt: int
    exclusive: bool


@dataclass(frozen=True)
class Record:
    """This node has ended; it is said once for every node."""

    id: str
    status: Ended
    reason: str = ""
    because_of: str = ""


@dataclass(frozen=True)
class Finish:
    """Nothing is left to do (until the plan grows)."""

    interrupted: bool = False


Instruction = Run | Record | Finish


class Plan:
    """The state of every node. `start` and `handle` return what is to be done now.

    `room`: how many calls may be under way at once, None for any number.
    """

    def __init__(self, nodes: Iterable[Node], room: int | None = None) -> None:
        self.room = room
        self._nodes: dict[str, Node] = {}
        self._depth: dict[str, int] = {}
        self._children: dict[str, list[str]] = {}
        self._status: dict[str, Status] = {}
        self._attempts: dict[str, int] = {}
        self._reasons: dict[str, tuple[str, str]] = {}  # why a node ended as it did, and because of which
        self._ready = _Ready()
        self._ready_exclusive: dict[str, None] = {}
        self._alone: dict[str, None] = {}  # exclusive nodes whose batch was lost: each runs alone, one at a time
        self._in_flight: dict[tuple[str, int], bool] = {}  # (id, attempt) -> exclusive; until that attempt is heard of
        self._exclusive_count = 0  # of those in flight
        self._open = 0
        self._stopped = False
        self._out_of_budget = False
        self._add(nodes)

    @property
    def status(self) -> Mapping[str, Status]:
        return self._status

    def start(self) -> list[Instruction]:
        return self._next([])

    def resize(self, room: int) -> list[Instruction]:
        """There is room for more calls now, or for fewer."""
        self.room = room
        return [] if self._stopped or not self._open else self._next([])

    def handle(self, event: Event) -> list[Instruction]:
        if self._stopped:
            return self._after_stop(event)
        out: list[Instruction] = []
        if isinstance(event, Done | Failed | Lost):
            exclusive = self._in_flight.pop((event.id, event.attempt), None)
            self._exclusive_count -= bool(exclusive)
            current = (
                exclusive is not None
                and event.attempt == self._attempts[event.id]
                and self._status[event.id] == "running"
            )
            if isinstance(event, Done):
                self._done(event.id, out)
            elif current and isinstance(event, Failed):
                self._end(event.id, "failed", event.reason, event.id, out)
            elif current and isinstance(event, Lost):
                self._lost(event.id, event.reason, out)
        elif isinstance(event, Grown):
            self._add(event.nodes, out)
        elif isinstance(event, OutOfBudget):
            self._out_of_budget = True
            self._skip_unstarted(out)
        else:
            self._stopped = True
            return [Finish(interrupted=True)]
        return self._next(out)

    def _add(self, nodes: Iterable[Node], out: list[Instruction] | None = None) -> None:
        for node in nodes:
            if node.id in self._nodes:
                raise ValueError(f"node {node.id} is in the plan already")
            if node.parent is not None and node.parent not in self._nodes:
                raise ValueError(f"node {node.id} has the unknown parent {node.parent}")
            self._nodes[node.id] = node
            self._status[node.id] = "waiting"
            self._attempts[node.id] = 0
            self._open += 1
            self._children.setdefault(node.id, [])
            self._depth[node.id] = 0
            if node.parent is not None:
                self._children[node.parent].append(node.id)
                self._depth[node.id] = self._depth[node.parent] + 1
            parent = "done" if node.parent is None else self._status[node.parent]
            if parent == "done":
                self._make_ready(node, [] if out is None else out)
            elif parent in ("failed", "skipped"):
                reason, because_of = self._reasons[str(node.parent)]
                self._end(node.id, "skipped", reason, because_of, [] if out is None else out)

    def _make_ready(self, node: Node, out: list[Instruction]) -> None:
        if node.exclusive:
            self._ready_exclusive[node.id] = None
        elif self._out_of_budget and not node.always:
            self._end(node.id, "skipped", OUT_OF_BUDGET, "", out)
        else:
            self._ready.push(node.id, self._depth[node.id])

    def _next(self, out: list[Instruction]) -> list[Instruction]:
        """Starts what can be: ready nodes while there is room; exclusive ones only when nothing else runs."""
        if self._exclusive_count:
            return out
        while self._ready and (self.room is None or len(self._in_flight) < max(1, self.room)):
            out.append(self._run((self._ready.pop(),), exclusive=False))
        if not self._in_flight and (self._ready_exclusive or self._alone):
            if self._ready_exclusive:
                ids = tuple(islice(self._ready_exclusive, MAX_TOGETHER))
                for id in ids:
                    del self._ready_exclusive[id]
            else:
                ids = (next(iter(self._alone)),)
                del self._alone[ids[0]]
            out.append(self._run(ids, exclusive=True))
        if self._open == 0:
            out.append(Finish())
        return out

    def _run(self, ids: tuple[str, ...], exclusive: bool) -> Run:
        for id in ids:
            self._status[id] = "running"
            self._attempts[id] += 1
            self._in_flight[id, self._attempts[id]] = exclusive
            self._exclusive_count += exclusive
        return Run(ids, self._attempts[ids[0]], exclusive)

    def _done(self, id: str, out: list[Instruction]) -> None:
        """A result counts whenever it comes, even from an attempt that was given up."""
        if self._status[id] not in ("waiting", "running"):
            return
        if self._status[id] == "waiting":
            self._ready.discard(id)
            self._ready_exclusive.pop(id, None)
            self._alone.pop(id, None)
        self._end(id, "done", "", "", out)
        for child in self._children[id]:
            self._make_ready(self._nodes[child], out)

    def _lost(self, id: str, reason: str, out: list[Instruction]) -> None:
        if self._attempts[id] >= self._nodes[id].attempts:
            times = f", {self._attempts[id]} times" if self._attempts[id] > 1 else ""
            self._end(id, "failed", f"{reason}{times}", id, out)
            return
        self._status[id] = "waiting"
        if self._nodes[id].exclusive:
            self._alone[id] = None
        elif self._out_of_budget and not self._nodes[id].always:
            self._end(id, "skipped", OUT_OF_BUDGET, "", out)
        else:
            self._ready.push(id, self._depth[id])

    def _end(self, id: str, status: Ended, reason: str, because_of: str, out: list[Instruction]) -> None:
        """Records a node and, where it is not done, skips everything below it."""
        pending = [(id, status, reason)]
        while pending:
            at, as_status, why = pending.pop()
            self._status[at] = as_status
            self._open -= 1
            out.append(Record(at, as_status, why, because_of))
            self._reasons[at] = why, because_of
            if as_status != "done":
                pending += [(child, "skipped", reason) for child in self._children[at]]

    def _skip_unstarted(self, out: list[Instruction]) -> None:
        for id in self._ready.ids():
            if not self._nodes[id].always:
                self._ready.discard(id)
                self._end(id, "skipped", OUT_OF_BUDGET, "", out)

    def _after_stop(self, event: Event) -> list[Instruction]:
        """What was finished before the stop but is heard of only now is still recorded."""
        if isinstance(event, Done) and self._status[event.id] in ("waiting", "running"):
            out: list[Instruction] = []
            self._end(event.id, "done", "", "", out)
            return out
        return []


class _Ready:
    """Nodes that may start: the deepest first, of equals the one that has waited longest."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, str]] = []
        self._there: dict[str, int] = {}  # id -> when it came; entries of the heap that are not here are void
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._there)

    def push(self, id: str, depth: int) -> None:
        self._count += 1
        self._there[id] = self._count
        heapq.heappush(self._heap, (-depth, self._count, id))

    def pop(self) -> str:
        while True:
            _, count, id = heapq.heappop(self._heap)
            if self._there.get(id) == count:
                del self._there[id]
                return id

    def discard(self, id: str) -> None:
        self._there.pop(id, None)

    def ids(self) -> list[str]:
        return list(self._there)
