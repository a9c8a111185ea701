"""A process that has imported all graph tools once and forks for each piece of work: a child costs 10 ms, not 3 s.

As a program: `python -m rayopt.graph.nursery`. It takes one JSON line a call on stdin, forks, limits the child's
memory, CPU time and, watching it, its wall time, and answers with one JSON line. It ends with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import math
import os
import pkgutil
import resource
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

Tell = Callable[[dict[str, Any]], None]
IDLE_S = 60.0
CHILD = "RAYOPT_GRAPH_CHILD"  # set in children alone: the same functions are called without one as well
TAIL_BYTES = 2000
GARBAGE_AFTER = 50_000  # new objects: graphs are of many that stay
SMALL_BYTES = 1 << 30  # with less memory than this to use, models are small, and so is what their garbage holds
SELDOM = (300_000, 2, 2)  # for those: a seventh less CPU time for a tenth more memory
WARM = "rayopt.graph.warm:warm"
IMPORTS = ("onnx", "onnx.version_converter", "onnx_ir", "onnxruntime", "onnxoptimizer", "onnxscript.optimizer",
           "onnxscript.rewriter", "onnx.inliner", "onnxslim", "onnxsim", "rayopt.graph.passes",
           "rayopt.graph.working", "rayopt.graph.warm")  # fmt: skip


def main() -> None:
    calls = os.dup(0)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a tool prints is no answer
    _prepare()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    buffer = b""
    while True:
        ready, _, _ = select.select([calls], [], [], IDLE_S)
        if not ready:
            return
        chunk = os.read(calls, 1 << 16)
        if not chunk:
            return
        buffer += chunk
        while b"\n" in buffer:
            line, _, buffer = buffer.partition(b"\n")
            call = json.loads(line)
            answer = _serve(call, calls) if "function" in call else _warm()
            print(json.dumps(answer), file=answers, flush=True)


def _prepare() -> None:
    """Imports what the work needs. torch is kept out: some tools import it if it is there, and take seconds."""
    sys.modules["torch"] = None  # type: ignore[assignment]
    for name in IMPORTS:
        with contextlib.suppress(ImportError):
            __import__(name)
    for found in pkgutil.iter_modules(sys.modules["rayopt.graph.passes"].__path__):
        __import__(f"rayopt.graph.passes.{found.name}")
    gc.collect()
    gc.freeze()


def _warm() -> dict[str, Any]:
    """One small model through all tools: children of many models need not each make what tools make when first used."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            pkgutil.resolve_name(WARM)()
            code = 0
        os._exit(code)
    survived = os.waitpid(child, 0)[1] == 0
    if survived:
        pkgutil.resolve_name(WARM)()
        gc.collect()
        gc.freeze()
    return {"warm": survived}


def _serve(call: dict[str, Any], calls: int) -> dict[str, Any]:
    reading, writing = os.pipe()
    start = time.monotonic()
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os.close(reading)
            _child(call, writing, said.fileno())
        os.close(writing)
        watched = _watch(child, reading, calls, call)
        os.close(reading)
        _, status, usage = os.wait4(child, 0)
        said.seek(max(0, said.seek(0, os.SEEK_END) - TAIL_BYTES))
        tail = said.read().decode(errors="replace")
    return {
        **watched,
        "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
        "seconds": time.monotonic() - start,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
        "said": tail,
    }


def _watch(child: int, reading: int, calls: int, call: dict[str, Any]) -> dict[str, Any]:
    """What the child tells until it ends or is ended; a parent that is gone ends both."""
    until = time.monotonic() + call["wall_s"]
    buffer = b""
    lines: list[dict[str, Any]] = []
    while True:
        left = until - time.monotonic()
        ready, _, _ = select.select([reading, calls], [], [], max(0.0, left))
        if calls in ready and not os.read(calls, 1):
            os.kill(child, signal.SIGKILL)
            os._exit(0)
        if left <= 0:
            os.kill(child, signal.SIGKILL)
            return {"lines": lines, "late": True}
        if reading not in ready:
            continue
        chunk = os.read(reading, 1 << 16)
        if not chunk:
            return {"lines": lines, "late": False}
        buffer += chunk
        while b"\n" in buffer:
            line, _, buffer = buffer.partition(b"\n")
            lines.append(json.loads(line))
            until = time.monotonic() + call["wall_s"]


def _child(call: dict[str, Any], writing: int, said: int) -> None:
    """Never returns: does the work of one call and leaves."""
    code = 1
    try:
        os.environ[CHILD] = "1"
        _limit(call)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        gc.set_threshold(*(SELDOM if call["memory_bytes"] <= SMALL_BYTES else (GARBAGE_AFTER,)))
        out = os.fdopen(writing, "w")

        def tell(line: dict[str, Any]) -> None:
            print(json.dumps(line), file=out, flush=True)

        function = pkgutil.resolve_name(call["function"])
        tell({"returned": function(call["argument"], tell)})
        code = 0
    except BaseException as error:  # noqa: BLE001 - whatever it is, it must not go up into the nursery's own loop
        with contextlib.suppress(BaseException):
            os.write(writing, json.dumps({"raised": f"{type(error).__name__}: {error}"[:500]}).encode() + b"\n")
    finally:
        os._exit(code)


def _limit(call: dict[str, Any]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (call["file_bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_AS, (_own_bytes() + call["memory_bytes"],) * 2)
    limit_cpu(call["cpu_s"])


def limit_cpu(seconds: float) -> None:
    """From now on a child of the nursery may use so many more seconds of CPU; whoever else calls is not limited."""
    if CHILD not in os.environ:
        return
    signal.setitimer(signal.ITIMER_PROF, seconds)  # to the millisecond, the limit below to the second
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used + seconds) + 1, resource.RLIM_INFINITY))


def _own_bytes() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123 - a path of the system
        return int(file.read().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main()
