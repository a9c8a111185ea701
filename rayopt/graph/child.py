"""Calls in children of a nursery: each is limited in memory and time, and may crash without harm to anybody else."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any

from rayopt.errors import WorkError

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What a child may take: memory beyond the tools' own code, CPU and wall seconds between two things it tells."""

    memory_bytes: int = 256 * MIB
    cpu_s: float = 5
    wall_s: float = 60
    file_bytes: int = 1 << 32


@dataclass(frozen=True)
class Reply:
    """What became of a call: the lines that it told, what it returned, and why it ended where it did not return."""

    lines: tuple[dict[str, Any], ...]
    returned: Any
    died: str  # "" where it returned
    seconds: float
    cpu_s: float
    peak_bytes: int


def call(function: str, argument: Any, limits: Limits) -> Reply:
    """`function(argument, tell)` of a `package.module:function` in a child; argument and result are JSON-able."""
    request = {"function": function, "argument": argument, **vars(limits)}
    with _LOCK:
        answer = _ask(request) or _ask(request)  # one that has just ended for lack of work is started again
    if answer is None:
        raise WorkError("the process that forks the graph tools does not start")
    lines = answer["lines"]
    last = lines[-1] if lines else {}
    died = "" if "returned" in last else _why(answer, last, limits)
    return Reply(tuple(lines), last.get("returned"), died, answer["seconds"], answer["cpu_s"], answer["peak_bytes"])


def warm() -> None:
    """Has the process that children are forked from use all tools once, which pays for ten models and more."""
    global _warmed
    with _LOCK:
        nursery = _nursery()
        if _warmed is not nursery and _ask({"warm": True}) is not None:
            _warmed = nursery


def _why(answer: dict[str, Any], last: dict[str, Any], limits: Limits) -> str:
    if answer["late"]:
        return f"did not end within {limits.wall_s:g} s"
    if "raised" in last:
        return str(last["raised"])
    if answer["signal"] in (signal.SIGPROF, signal.SIGXCPU):
        return f"did not end within {last.get('cpu_s', limits.cpu_s):.3g} s of CPU time"
    if answer["signal"]:
        return f"died by {signal.Signals(answer['signal']).name}"
    said = answer["said"].strip().splitlines()
    return said[-1][:200] if said else "ended without a word"


_LOCK = threading.Lock()
_running: subprocess.Popen[bytes] | None = None
_warmed: subprocess.Popen[bytes] | None = None  # the one that has been told to


def _ask(request: dict[str, Any]) -> dict[str, Any] | None:
    try:
        nursery = _nursery()
        if nursery.stdin is None or nursery.stdout is None:
            return None
        nursery.stdin.write(json.dumps(request).encode() + b"\n")
        nursery.stdin.flush()
        line = nursery.stdout.readline()
        if line:
            return dict(json.loads(line))
    except (OSError, ValueError):
        pass
    except BaseException:  # an interrupt: what the answer would have been is not to be taken for the next one's
        close()
        raise
    close()
    return None


def _nursery() -> subprocess.Popen[bytes]:
    global _running
    if _running is not None and _running.poll() is None:
        return _running
    close()
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    paths = [path for path in (os.environ.get("PYTHONPATH"), *sys.path) if path]
    same = {"PYTHONHASHSEED": "0"}  # tools that go through sets of names write the same bytes each time
    environment = {**os.environ, **one, **same, "MALLOC_ARENA_MAX": "2", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "rayopt.graph.nursery"]
    _running = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    if _running.stdout is None or not _running.stdout.readline():
        raise OSError("the nursery did not start")
    return _running


def close() -> None:
    """Ends the nursery, if there is one; the next call starts another."""
    global _running
    if _running is None:
        return
    nursery, _running = _running, None
    for pipe in (nursery.stdin, nursery.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    nursery.kill()
    nursery.wait()


atexit.register(close)
