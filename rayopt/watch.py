"""Being told what a run does, as it does it: for a terminal, for the log, or not at all."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from rayopt.runs.files import disk_errors
from rayopt.runs.hidden import redact

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

    def candidate(self, id: str, status: str, best: Mapping[str, float]) -> None:
        """One of what the run compares has ended; `best` are the best values so far, by name."""

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

    def candidate(self, id: str, status: str, best: Mapping[str, float]) -> None: ...

    def note(self, text: str) -> None: ...

    def measured(self, step: int, metrics: Mapping[str, float], training: str = "") -> bool:
        return False


class Logged:
    """Writes everything to the log and passes it on."""

    def __init__(self, then: Watcher) -> None:
        self._then = then

    def planned(self, count: int) -> None:
        log.debug("%d tasks are planned", count, extra=_event("planned", count=count))
        self._then.planned(count)

    def backend_started(self, name: str, dashboard: str | None, seconds: float) -> None:
        event = _event("backend_started", name=name, seconds=seconds, dashboard=dashboard)
        log.debug("%s is ready after %.1f s; dashboard: %s", name, seconds, dashboard or "none", extra=event)
        self._then.backend_started(name, dashboard, seconds)

    def started(self, id: str, name: str) -> None:
        log.debug("started %s: %s", id, name, extra=_event("started", **_about(id), name=name))
        self._then.started(id, name)

    def ended(self, id: str, name: str, status: str, reason: str, cached: bool) -> None:
        event = _event("ended", **_about(id), name=name, status=status, reason=reason, cached=cached)
        how, why = "cached" if cached else status, f": {reason}" if reason else ""
        log.debug("%s %s: %s%s", how, id, name, why, extra=event)
        self._then.ended(id, name, status, reason, cached)

    def candidate(self, id: str, status: str, best: Mapping[str, float]) -> None:
        event = _event("candidate", candidate=id, status=status, best=dict(best))
        log.debug("candidate %s is %s", id, status, extra=event)
        self._then.candidate(id, status, best)

    def note(self, text: str) -> None:
        log.debug("%s", text)
        self._then.note(text)

    def measured(self, step: int, metrics: Mapping[str, float], training: str = "") -> bool:
        shown = ", ".join(f"{name} {value:.6g}" for name, value in metrics.items())
        event = _event("measured", training=training, step=step, metrics=dict(metrics))
        log.debug("%s step %d: %s", training or "training", step, shown, extra=event)
        return self._then.measured(step, metrics, training)


class Structured(logging.Formatter):
    """A record as a line of JSON: `time` (UTC), `level`, `run`, `message`, and what the record says in fields."""

    def __init__(self, run: Mapping[str, str]) -> None:
        super().__init__()
        self._run = dict(run)

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        told = {"time": when, "level": record.levelname, **self._run, **getattr(record, "fields", {})}
        told["message"] = record.getMessage()
        if record.exc_info:
            told["trace"] = self.formatException(record.exc_info)
        return redact(json.dumps(_finite(told), default=str))


class Plain(logging.Formatter):
    """A record as a line for people, and its traceback."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class _File(logging.FileHandler):
    """A log that the disk does not take is no reason to say so line by line: what matters there fails by itself."""

    def handleError(self, record: logging.LogRecord) -> None: ...  # noqa: N802 - as logging calls it

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def logging_to(path: Path, run: Mapping[str, str] | None = None) -> Iterator[None]:
    """Appends what rayopt logs to a file for as long as the context lasts, and as JSON to `log.jsonl` beside it.

    run: what every line of JSON says of the run.
    """
    with disk_errors(path):
        handler = _File(path, encoding="utf-8")
        structured = _File(path.with_suffix(".jsonl"), encoding="utf-8")
    handler.setFormatter(Plain())
    structured.setFormatter(Structured(run or {}))
    warnings = logging.StreamHandler()
    warnings.setLevel(logging.WARNING)
    level = log.level
    log.handlers += [handler, structured, warnings]
    log.setLevel(logging.DEBUG)
    log.propagate = False  # libraries put handlers of their own on the root logger
    try:
        yield
    finally:
        log.propagate = True
        log.setLevel(level)
        for one in (handler, structured, warnings):
            log.removeHandler(one)
        handler.close()
        structured.close()


def _event(event: str, **fields: Any) -> dict[str, Any]:
    """What a record says in fields, as `logging` takes it."""
    return {"fields": {"event": event, **{name: value for name, value in fields.items() if value not in (None, "")}}}


def _about(id: str) -> dict[str, str]:
    """The task of an id, and the candidate that it belongs to: `c8ca068c14f2:selection` is of `c8ca068c14f2`."""
    return {"task": id, "candidate": id.partition(":")[0]}


def _finite(value: Any) -> Any:
    """The value with text for numbers that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return {name: _finite(one) for name, one in value.items()} if isinstance(value, dict) else value
