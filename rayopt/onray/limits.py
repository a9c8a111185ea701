"""The limits of a call in a worker process: at its limit the process is ended, and the driver can ask why.

Python cannot be made to leave what hangs or eats memory, so the process has to go. A thread of it watches the time
and the memory; where that thread does not get its turn either (C code that keeps the lock of the interpreter), the
fault handler, which needs no lock, ends the process a little later, and the driver knows when the call began.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

from rayopt.backend import MAX_TIMER_S, late
from rayopt.records import Need

NAMESPACE = b"rayopt"
LOOK_S = 0.1
GRACE_S = 5.0


@dataclass(frozen=True)
class Limits:
    """The limits of one call; `key` is the call's name among all calls of all drivers of the cluster."""

    key: str
    limit_s: float
    memory_bytes: int

    @classmethod
    def of(cls, key: str, need: Need) -> Limits:
        return cls(key, min(need.limit_s, MAX_TIMER_S), need.memory_bytes)

    @contextlib.contextmanager
    def enforced(self) -> Iterator[None]:
        """Ends this process if what is done inside goes beyond the limits."""
        _internal_kv_put(f"{self.key}/began".encode(), repr(time.time()).encode(), namespace=NAMESPACE)
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,), daemon=True, name="limits")
        thread.start()
        faulthandler.dump_traceback_later(self.limit_s + GRACE_S, exit=True)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            over.set()
            thread.join()

    def why(self) -> str | None:
        """For the driver: why the process of this call was ended, None where it was not for its limits."""
        reason = _told(f"{self.key}/ended")
        began = _told(f"{self.key}/began")
        if reason is None and began is not None and time.time() - float(began) > self.limit_s:
            return late(self.limit_s)
        return reason

    def _watch(self, over: threading.Event) -> None:
        until = time.monotonic() + self.limit_s
        process = psutil.Process()
        while not over.wait(min(LOOK_S, self.limit_s) if self.memory_bytes else until - time.monotonic()):
            if time.monotonic() >= until:
                self._end(late(self.limit_s))
            if self.memory_bytes and _own_bytes(process) > self.memory_bytes:
                self._end(f"took more memory than the {self.memory_bytes:,} bytes that it asked for")

    def _end(self, reason: str) -> None:
        with contextlib.suppress(Exception):
            _internal_kv_put(f"{self.key}/ended".encode(), reason.encode(), namespace=NAMESPACE)
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
        os.kill(os.getpid(), signal.SIGKILL)


def forget(prefix: str) -> None:
    """For the driver: drops what the calls whose keys begin so have left in the cluster's memory."""
    _internal_kv_del(prefix.encode(), del_by_prefix=True, namespace=NAMESPACE)


def _told(key: str) -> str | None:
    value = _internal_kv_get(key.encode(), namespace=NAMESPACE)
    return None if value is None else value.decode()


def _own_bytes(process: psutil.Process) -> int:
    """The memory of a process without what it shares, such as the object store."""
    memory = process.memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))
