"""The seam between deciding and doing: a Backend carries out calls. The twin here does so in this process."""

from __future__ import annotations

import re
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from rayopt.errors import RayoptError
from rayopt.records import ONE_CPU, Need


@dataclass(frozen=True)
class Handle:
    """A value that lives where the work is done; given as a call's argument, it arrives there as the value."""

    value: Any


@dataclass(frozen=True)
class Call:
    """`function(*args)` on some machine; an exclusive call has its machine to itself.

    `code` is a hash of the user's sources that it may import: a process that imported others reads them again.
    """

    id: str
    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    need: Need = ONE_CPU
    exclusive: bool = False
    code: str = ""


@dataclass(frozen=True)
class Returned:
    id: str
    value: Any


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
    already, starting nothing; `close` stops what still runs and leaves nothing behind.
    """

    name: str
    dashboard: str | None

    def put(self, value: Any) -> Handle: ...

    def submit(self, call: Call) -> Handle: ...

    def wait(self, timeout_s: float) -> list[Report]: ...

    def drain(self) -> list[Report]: ...

    def close(self) -> None: ...


class InProcess:
    """The twin that runs calls here, one at a time, first come first served: short tracebacks, no cluster."""

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
        try:
            later.value = call.function(*[_resolve(argument) for argument in call.args])
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a step raises ends that step only
            return [Raised(call.id, describe(error), traceback.format_exc())]
        return [Returned(call.id, later.value)]

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


def describe(error: BaseException) -> str:
    """An exception as a reason: our own errors speak for themselves, others say what they are."""
    if isinstance(error, RayoptError):
        return str(error)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()  # some libraries color their messages
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
