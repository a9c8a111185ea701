"""The machine that this process runs on: what it is, and having it to oneself for a while."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """What latencies depend on here: the processor and how many of them."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        named = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = named[0] if named else model
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
    }


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Waits until no other run times models on this machine, and keeps it so; where that cannot be, goes on at once."""
    try:
        import fcntl

        path = Path(tempfile.gettempdir()) / "rayopt-timing.lock"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except (ImportError, OSError):
        yield
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
