"""What the journal of a run says to those who keep track of runs: named parameters and numbers, as the lines come.

A tracker is `tensorboard`, into the run folder or `tensorboard:FOLDER`, or `mlflow`, `mlflow:URI` for a server or a
store. Both are Ray Tune's own callbacks (`onray.trackers`), told of each line; nothing of a run depends on them.
How far each was told is kept in the run folder, so that a run that goes on tells none of them anything twice.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rayopt.errors import did_you_mean, input_error
from rayopt.runs import journal
from rayopt.watch import Watcher

log = logging.getLogger("rayopt")
PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow"}
DEPTH = 2


@dataclass(frozen=True)
class Entry:
    """One line: of a candidate with its parameters, or of a step of a training, without id if it is the only one."""

    id: str
    params: Mapping[str, Any]
    numbers: Mapping[str, float]
    step: int | None = None
    failed: bool = False


class Tracker(Protocol):
    """Told of one line after another; candidates come once, steps again and again."""

    def tell(self, entry: Entry) -> None: ...

    def close(self, failed: bool) -> None: ...


@dataclass(frozen=True)
class Wanted:
    """A tracker that was asked for; `at` is empty where nothing was said."""

    name: str
    at: str = ""

    def __str__(self) -> str:
        return f"{self.name}:{self.at}" if self.at else self.name

    def folder(self, name: str, run: Path) -> Path:
        """Where TensorBoard's files of the run `name` in `run` lie; raises InputError where the run itself is there."""
        there = Path(self.at) / name if self.at else run / "tensorboard"
        if run.resolve().is_relative_to(there.resolve()):
            problem = f"{there} is or holds the run's own folder"
            raise input_error(f"--track {self}", problem, f"leave the folder out, for {run / 'tensorboard'}")
        return there


def wanted(written: str) -> Wanted:
    """What `tensorboard`, `mlflow:URI` and the like ask for; raises InputError."""
    name, _, at = written.partition(":")
    place = f"--track {written}"
    if name not in PACKAGES:
        raise input_error(place, f"unknown tracker {name!r}", did_you_mean(name, list(PACKAGES)))
    if importlib.util.find_spec(PACKAGES[name]) is None:
        raise input_error(place, f"needs {PACKAGES[name]}, which is not installed", f"pip install 'rayopt[{name}]'")
    return Wanted(name, at)


def entry_of(line: Mapping[str, Any]) -> Entry:
    """A line of a journal of any kind; its numbers by dotted names."""
    numbers = dict(_numbers(line, "", DEPTH))
    if "step" in line:
        kept = {name: value for name, value in numbers.items() if name != "step"}
        return Entry(str(line.get("training", "")), {}, kept, int(line["step"]))
    params = line.get("params") or ({"steps": " > ".join(line["steps"])} if "steps" in line else {})
    kept = {name: value for name, value in numbers.items() if not name.startswith(("params.", "notes."))}
    return Entry(str(line.get("id") or line.get("name") or ""), params, kept, None, line.get("status") == "failed")


def _numbers(value: Any, prefix: str, depth: int) -> list[tuple[str, float]]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [(prefix, float(value))] if math.isfinite(value) else []
    if not isinstance(value, Mapping) or not depth:
        return []
    return [pair for key, one in value.items() for pair in _numbers(one, f"{prefix}.{key}".lstrip("."), depth - 1)]


class Told:
    """How many bytes of the journal each tracker was told, by what asked for it; kept in a file if there is one."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._bytes: dict[str, int] = {}
        try:
            found = json.loads(path.read_text()) if path else {}
            self._bytes = {name: int(count) for name, count in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return  # no earlier run has told anything, or nobody knows any more

    def __getitem__(self, name: str) -> int:
        return self._bytes.get(name, 0)

    def __setitem__(self, name: str, count: int) -> None:
        if self[name] == count:
            return
        self._bytes[name] = count
        if self._path:
            aside = self._path.with_name(f".{self._path.name}.new")
            aside.write_text(json.dumps(self._bytes))
            aside.replace(self._path)


@dataclass
class Tracked:
    """A watcher that passes everything on and, whenever something came, tells the trackers the journal's new lines."""

    then: Watcher
    path: Path
    trackers: Mapping[str, Tracker]
    told: Told = field(default_factory=Told)

    def planned(self, count: int) -> None:
        self.then.planned(count)

    def backend_started(self, name: str, dashboard: str | None, seconds: float) -> None:
        self.then.backend_started(name, dashboard, seconds)

    def started(self, id: str, name: str) -> None:
        self.then.started(id, name)

    def ended(self, id: str, name: str, status: str, reason: str, cached: bool) -> None:
        self.then.ended(id, name, status, reason, cached)
        self.look()

    def candidate(self, id: str, status: str, best: Mapping[str, float]) -> None:
        self.then.candidate(id, status, best)

    def note(self, text: str) -> None:
        self.then.note(text)

    def measured(self, step: int, metrics: Mapping[str, float], training: str = "") -> bool:
        stop = self.then.measured(step, metrics, training)
        self.look()
        return stop

    def look(self) -> None:
        """Tells what is new. A tracker that fails is done without: the run is worth more."""
        for name, tracker in list(self.trackers.items()):
            try:
                self._tell(name, tracker)
            except Exception as error:  # noqa: BLE001 - a server may be gone, a disk full
                self._do_without(name, error)

    def close(self, failed: bool) -> None:
        self.look()
        for name, tracker in list(self.trackers.items()):
            try:
                tracker.close(failed)
            except Exception as error:  # noqa: BLE001
                self._do_without(name, error)

    def _tell(self, name: str, tracker: Tracker) -> None:
        lines, end = journal.read_on(self.path, self.told[name])
        for line in lines:
            tracker.tell(entry_of(line))
        self.told[name] = end

    def _do_without(self, name: str, error: Exception) -> None:
        log.warning("%s is not told any more: %s: %s", name, type(error).__name__, error)
        self.trackers = {other: one for other, one in self.trackers.items() if other != name}
