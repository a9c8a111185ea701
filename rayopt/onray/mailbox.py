"""An actor between the driver of a search and its trials: cells for each worker, events for the driver."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from rayopt.search.crew import Answered, Event, Joined, Lost

PULL_S = 20.0
HOLD_S = 0.05  # how long news that the driver need not act upon may lie, so that more comes with it
FORSAKEN_S = 50.0  # trials go home when the driver has not been heard of for so long


class Mailbox:
    """Each worker has a name, and a number for each of its lives: Tune starts one that has died again."""

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._cells: dict[str, deque[Any]] = {}
        self._calls: dict[str, asyncio.Event] = {}
        self._lives: dict[str, int] = {}
        self._alive: set[str] = set()
        self._taken: dict[str, float] = {}
        self._events: list[Event] = []
        self._round: tuple[int, Any, float | None] = (0, None, None)
        self._news = asyncio.Event()
        self._failure: BaseException | None = None
        self.is_closed = False
        self._heard = time.monotonic()

    async def join(self, worker: str) -> int:
        """A worker is there; one of that name before it is not any more. Gives which life of it this is."""
        await self.lost(worker)
        self._lives[worker] = self._lives.get(worker, 0) + 1
        self._alive.add(worker)
        self._cells[worker], self._calls[worker] = deque(), asyncio.Event()
        self._tell(Joined(_life(worker, self._lives[worker])))
        return self._lives[worker]

    async def lost(self, worker: str) -> None:
        """A worker's process is gone, which the driver is told once."""
        if worker in self._alive:
            self._alive.remove(worker)
            busy_s = time.monotonic() - self._taken.pop(worker) if worker in self._taken else 0.0
            self._tell(Lost(_life(worker, self._lives[worker]), "its process died", busy_s))

    async def pull(self, worker: str, life: int, answers: Any, seen: int = 0) -> Any:
        """Takes results (round, answers) or None; gives (round, batch reference, deadline, cells), None at the end.

        seen: the round that the worker knows of; another one is told before there are cells of it.
        """
        if self._lives[worker] == life:
            self._taken.pop(worker, None)
        if answers is not None:
            self._tell(Answered(_life(worker, life), *answers), urgent=not self._cells[worker])

        def is_due() -> bool:
            is_news = self._round[0] != seen or self._lives[worker] != life
            return bool(self._cells[worker]) or self.is_closed or is_news

        await _within(PULL_S, is_due, self._calls[worker])
        silent_s = time.monotonic() - self._heard
        if self.is_closed or self._lives[worker] != life or silent_s > self._idle_s + FORSAKEN_S:
            return None
        if not self._cells[worker]:
            return (*self._round, b"")
        self._taken[worker] = time.monotonic()
        return (*self._round, self._cells[worker].popleft())

    async def tell(self, worker: str, life: int, answers: Any) -> None:
        """Results of a part of what a worker has in hand."""
        self._tell(Answered(_life(worker, life), *answers), urgent=False)

    async def start(self, number: int, batch: Any, deadline_s: float | None) -> None:
        """A round begins: what was left of the one before is void; workers that are there report again."""
        self._round = (number, batch, deadline_s)
        self._taken.clear()
        for worker, cells in self._cells.items():
            cells.clear()
            self._calls[worker].set()
        self._events = [Joined(_life(worker, life)) for worker, life in self._lives.items() if worker in self._alive]
        self._news.set()
        self._heard = time.monotonic()

    async def exchange(self, assigned: Sequence[tuple[str, bytes]], timeout_s: float) -> list[Event]:
        """Takes cells by worker, and gives what has happened, after `timeout_s` at the latest.

        Raises what the workers' end came from.
        """
        self._heard = time.monotonic()
        if self._failure is not None:
            raise self._failure
        for name, cells in assigned:
            worker, _, life = name.rpartition("#")
            if worker in self._alive and self._lives[worker] == int(life):
                self._cells[worker].append(cells)
                self._calls[worker].set()
        await _within(timeout_s, lambda: bool(self._events), self._news)
        events, self._events = self._events, []
        return events

    @property
    def alive_count(self) -> int:
        """How many workers are there."""
        return len(self._alive)

    def fail(self, error: BaseException) -> None:
        """No worker will come any more: the driver is told when it asks for news."""
        self._failure, self.is_closed = error, True
        self._news.set()

    async def close(self) -> None:
        self.is_closed = True
        for call in self._calls.values():
            call.set()

    def _tell(self, event: Event, urgent: bool = True) -> None:
        self._events.append(event)
        if urgent:
            self._news.set()
        else:
            asyncio.get_running_loop().call_later(HOLD_S, self._news.set)


async def _within(timeout_s: float, is_so: Callable[[], bool], call: asyncio.Event) -> None:
    """Waits until it is so, looking each time that it is called, or until the time is over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while not is_so():
                call.clear()
                await call.wait()


def _life(worker: str, life: int) -> str:
    return f"{worker}#{life}"
