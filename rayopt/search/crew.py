"""The seam to whoever evaluates cells elsewhere: a Crew of workers that are told what to do and say what came of it."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rayopt.errors import WorkError
from rayopt.runs.hidden import redact
from rayopt.search.cells import Batch, Broken, Cell, Evaluator, dump

FLUSH_S = 0.1
Answers = list[tuple[int, Any]]


@dataclass(frozen=True)
class Joined:
    """A worker is there and takes cells."""

    worker: str


@dataclass(frozen=True)
class Answered:
    """Results by the index of their cells, from round `number`."""

    worker: str
    number: int
    answers: Answers


@dataclass(frozen=True)
class Lost:
    """A worker's process is gone; `busy_s` after it took what it had in hand, where that is known."""

    worker: str
    reason: str
    busy_s: float | None = None


Event = Joined | Answered | Lost


class Crew(Protocol):
    """Workers elsewhere. `start` begins a round, where it has not begun before; `wait` gives what has happened, after
    `timeout_s` at the latest.

    `finish` ends the round, and `close` the crew, unless it is kept for the next search. Workers come by themselves
    and are replaced when they are lost.
    """

    name: str

    def start(self, number: int, batch: Batch, deadline_s: float | None) -> None: ...

    def assign(self, worker: str, number: int, cells: Sequence[Cell]) -> None: ...

    def wait(self, timeout_s: float) -> list[Event]: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


class Hands:
    """What a worker does with cells; it holds the batch of the last round that it was asked about."""

    def __init__(self, fetch: Callable[[int], Batch]) -> None:
        self._fetch = fetch
        self._number = -1
        self._evaluator: Evaluator | None = None

    def prepare(self, number: int) -> None:
        """Lets the batch before go and fetches one before there are cells of it; a fault is told with those."""
        self._evaluator = None
        with contextlib.suppress(Exception):
            self._evaluator, self._number = Evaluator(self._fetch(number)), number

    def work(self, number: int, cells: Sequence[Cell], deadline_s: float | None) -> Iterator[Answers]:
        """Evaluates cells one after another and hands results over from time to time."""
        if number != self._number or self._evaluator is None:
            try:
                self._evaluator, self._number = Evaluator(self._fetch(number)), number
            except Exception as error:  # noqa: BLE001 - such as a module that is missing there; dying would not help
                said = redact(f"a worker cannot read what it is to evaluate: {type(error).__name__}: {error}")
                yield [(cell.index, Broken(WorkError(said))) for cell in cells]
                return
        answers: Answers = []
        since = time.monotonic()
        for cell in cells:
            with deadline(deadline_s):
                answers.append((cell.index, _portable(self._evaluator(cell))))
            if time.monotonic() - since > FLUSH_S:
                yield answers
                answers, since = [], time.monotonic()
        if answers:
            yield answers


@contextlib.contextmanager
def deadline(seconds: float | None) -> Iterator[None]:
    """Ends this process if the context takes longer: the timer needs no lock of Python's, which a hung C loop keeps."""
    if seconds is None:
        yield
        return
    with Path(os.devnull).open("w") as nowhere:
        faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _portable(result: Any) -> Any:
    """An exception of a user's own class may not survive the journey."""
    if isinstance(result, Broken):
        try:
            pickle.loads(dump(result))  # noqa: S301 - of our own making
        except Exception:  # noqa: BLE001 - any class may fail in its own way
            return Broken(RuntimeError(f"{type(result.error).__name__}: {result.error}"))
    return result
