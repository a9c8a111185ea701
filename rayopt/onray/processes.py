"""The processes of a Ray that we started, so that none of them outlives us however the start or the end went."""

from __future__ import annotations

import contextlib
import time

import psutil

GRACE_S = 0.3


class Family:
    """All processes that descend from this one and were not there when the family was made."""

    def __init__(self) -> None:
        self._before = {process.pid for process in _descendants()}
        self._seen: dict[int, psutil.Process] = {}

    def look(self) -> None:
        """Remembers who is there now: a process whose parent dies is not found as a descendant any more."""
        for process in _descendants():
            if process.pid not in self._before:
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


def _descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _alive(process: psutil.Process) -> bool:
    """A zombie is gone: it waits for a parent that may never ask."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
