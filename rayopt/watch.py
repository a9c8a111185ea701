"""Being told what a run does, as it does it: for a terminal, for the log, or not at all."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from rayopt.runs.files import disk_errors

log = logging.getLogger("rayopt")


class Watcher(Protocol):
    """Called by the driver; must return at once and never raise."""

    def planned(self, count: int) -> None:
        """There are `count` tasks in all, as far as is known."""

    def backend_started(self, name: str, dashboard: str | None, seconds: float) -> None:
        """The machines are there."""

    def started(self, id: str, name: str) -> None:
        """A task was handed to a machine."""

    def ended(self, id: str, name: str, status: str, reason: str, cached: bool) -> None:
        """A task is done, failed or skipped; `cached`: its result was there already."""

    def note(self, text: str) -> None:
        """Something for the log, such as a traceback."""

    def measured(self, step: int, metrics: Mapping[str, float], training: str = "") -> bool:
        """What a training has measured after a step; True: it is to end here, as early stopping ends it.

        `training` names the ones that a job has besides the one that it is for.
        """


class Silent:
    """Says nothing."""

    def planned(self, count: int) -> None: ...

    def backend_started(self, name: str, dashboard: str | None, seconds: float) -> None: ...

    def started(self, id: str, name: str) -> None: ...

    def ended(self, id: str, name: str, status: str, reason: str, cached: bool) -> None: ...

    def note(self, text: str) -> None: ...

    def measured(self, step: int, metrics: Mapping[str, float], training: str = "") -> bool:
        return False


class Logged:
    """Writes everything to the log and passes it on."""

    def __init__(self, then: Watcher) -> None:
        self._then = then

    def planned(self, count: int) -> None:
        log.debug("%d tasks are planned", count)
        self._then.planned(count)

    def backend_started(self, name: str, dashboard: str | None, seconds: float) -> None:
        log.debug("%s is ready after %.1f s; dashboard: %s", name, seconds, dashboard or "none")
        self._then.backend_started(name, dashboard, seconds)

    def started(self, id: str, name: str) -> None:
        log.debug("started %s: %s", id, name)
        self._then.started(id, name)

    def ended(self, id: str, name: str, status: str, reason: str, cached: bool) -> None:
        log.debug("%s %s: %s%s", "cached" if cached else status, id, name, f": {reason}" if reason else "")
        self._then.ended(id, name, status, reason, cached)

    def note(self, text: str) -> None:
        log.debug("%s", text)
        self._then.note(text)

    def measured(self, step: int, metrics: Mapping[str, float], training: str = "") -> bool:
        shown = ", ".join(f"{name} {value:.6g}" for name, value in metrics.items())
        log.debug("%s step %d: %s", training or "training", step, shown)
        return self._then.measured(step, metrics, training)


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Appends what rayopt logs to a file for as long as the context lasts."""
    with disk_errors(path):
        handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    warnings = logging.StreamHandler()
    warnings.setLevel(logging.WARNING)
    level = log.level
    log.handlers += [handler, warnings]
    log.setLevel(logging.DEBUG)
    log.propagate = False  # libraries put handlers of their own on the root logger
    try:
        yield
    finally:
        log.propagate = True
        log.setLevel(level)
        for one in (handler, warnings):
            log.removeHandler(one)
        handler.close()
