"""The seam between deciding and doing: a Backend carries out calls. The twin here does so in this process."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from rayopt.errors import RayoptError
from rayopt.records import ONE_CPU, Need
from rayopt.runs.hidden import redact

MAX_TIMER_S = 10.0**8  # more than that a timer does not take


@dataclass(frozen=True)
class Handle:
    """A value that lives where the work is done; given as a call's argument, it arrives there as the value."""

    value: Any


@dataclass(frozen=True)
class Call:
    """`function(*args)` on some machine; an exclusive call has its machine to itself.

    `code` is a hash of the user's sources that it may import: a process that imported others reads them again.
    `where` names the machines it may run on, by label; under the key `resource` stands the name of a resource that
    they have.
    """

    id: str
    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    need: Need = ONE_CPU
    exclusive: bool = False
    code: str = ""
    where: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Returned:
    """A result, and when the work on it began and ended, in seconds since 1970 by the clock of where it was done."""

    id: str
    value: Any
    began: float = field(default=0.0, compare=False)
    ended: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Raised:
    """The function raised: `reason` for people, `trace` for the log."""

    id: str
    reason: str
    trace: str = ""


@dataclass(frozen=True)
class Vanished:
    """The process or machine that ran the call is gone."""

    id: str
    reason: str


Report = Returned | Raised | Vanished


class Backend(Protocol):
    """Carries out calls.

    `wait` returns what has ended since it was last asked, after `timeout_s` at the latest; `drain` what has ended
    already, starting nothing; `close` stops what still runs and leaves nothing behind. More than `room` calls at a time
    only wait for each other.
    """

    name: str
    dashboard: str | None

    @property
    def room(self) -> int: ...

    def put(self, value: Any) -> Handle: ...

    def submit(self, call: Call) -> Handle: ...

    def wait(self, timeout_s: float) -> list[Report]: ...

    def drain(self) -> list[Report]: ...

    def close(self) -> None: ...


class InProcess:
    """The twin that runs calls here, one at a time, first come first served: short tracebacks, no cluster.

    A call's time is limited where it can be, in the main thread and between two steps of Python; its memory is not.
    """

    room = 1

    def __init__(self) -> None:
        self.name = "in process"
        self.dashboard: str | None = None
        self._calls: deque[tuple[Call, _Later]] = deque()

    def put(self, value: Any) -> Handle:
        return Handle(value)

    def submit(self, call: Call) -> Handle:
        later = _Later()
        self._calls.append((call, later))
        return Handle(later)

    def wait(self, timeout_s: float) -> list[Report]:
        if not self._calls:
            return []
        call, later = self._calls.popleft()
        if call.where:
            return [Raised(call.id, "this process is no machine that can be chosen: a `target:` needs Ray")]
        began = time.time()
        try:
            with _limited(call.need.limit_s):
                later.value = call.function(*[_resolve(argument) for argument in call.args])
        except (Exception, SystemExit, _Late) as error:  # noqa: BLE001 - whatever a step raises ends that step only
            return [Raised(call.id, describe(error), trace())]
        return [Returned(call.id, later.value, began, time.time())]

    def drain(self) -> list[Report]:
        return []

    def close(self) -> None:
        self._calls.clear()


@dataclass
class _Later:
    value: Any = None


def _resolve(argument: Any) -> Any:
    value = argument.value if isinstance(argument, Handle) else argument
    return value.value if isinstance(value, _Later) else value


class _Late(BaseException):
    """A call is at its limit; a method that catches every Exception does not catch this."""


@contextlib.contextmanager
def _limited(limit_s: float) -> Iterator[None]:
    """Raises _Late in the main thread after so many seconds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise _Late(late(limit_s))

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, min(limit_s, MAX_TIMER_S))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def late(limit_s: float) -> str:
    """The reason of a call that was ended at its limit."""
    return f"did not end within {limit_s:,g} s"


def describe(error: BaseException) -> str:
    """An exception as a reason, without secrets: our own errors speak for themselves, others say what they are."""
    if isinstance(error, RayoptError | _Late):
        return redact(str(error))
    said = redact(re.sub(r"\x1b\[[0-9;]*m", "", str(error)))  # some libraries color their messages
    lines = said.strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def trace() -> str:
    """Where the exception that is handled comes from, for the log, without secrets."""
    return redact(traceback.format_exc())
