"""The processes of a Ray that we started, so that none of them outlives us however the start or the end went."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import psutil
import ray

GRACE_S = 0.3
RAY_FOLDER = str(Path(ray.__file__).parent)


class Family:
    """The processes of Ray that this one has started since the family was made, and all that they have started."""

    def __init__(self) -> None:
        self._before = {process.pid for process in psutil.Process().children()}
        self._seen: dict[int, psutil.Process] = {}

    def look(self) -> None:
        """Remembers who is there now: a process whose parent dies is not found as a descendant any more."""
        for child in psutil.Process().children():
            if child.pid in self._before or not _is_ray(child):
                continue
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in (child, *child.children(recursive=True)):
                    self._seen.setdefault(process.pid, process)

    def end(self) -> None:
        """Gives those that are left a moment to go, then ends them."""
        self.look()
        deadline = time.monotonic() + GRACE_S
        while (alive := [one for one in self._seen.values() if _alive(one)]) and time.monotonic() < deadline:
            time.sleep(0.02)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                for one in [*process.children(recursive=True), process]:
                    one.kill()


def _is_ray(process: psutil.Process) -> bool:
    """Whether a child of ours is one that Ray has started; others are none of our business."""
    try:
        return any(RAY_FOLDER in word for word in process.cmdline())
    except psutil.Error:
        return False


def _alive(process: psutil.Process) -> bool:
    """A zombie is gone: it waits for a parent that may never ask."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
