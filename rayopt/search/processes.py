"""A Crew of child processes on this machine: there before a Ray is, and for those who have none.

As a program, `python -m rayopt.search.processes FD`, it is such a child, which talks over the socket FD.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from rayopt.errors import WorkError
from rayopt.search.cells import Batch, Cell, dump
from rayopt.search.crew import Answered, Event, Hands, Joined, Lost

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
UNFIT = 3  # children that die before they have joined, in a row: no others are started


class Processes:
    """`count` children, replaced when they die."""

    def __init__(self, count: int) -> None:
        self.name = f"{count} {'process' if count == 1 else 'processes'} of this machine"
        self._count = count
        self._children: dict[str, _Child] = {}
        self._made = self._unfit = 0
        self._last = ""
        self._events: list[Event] = []  # of those who are there already when a round begins
        self._round: tuple[int, bytes, float | None] | None = None

    def start(self, number: int, batch: Batch, deadline_s: float | None) -> None:
        if self._round is not None and self._round[0] == number:
            return
        self._round = (number, dump(batch), deadline_s)
        for child in self._children.values():
            child.send(("round", *self._round))
        self._events = [Joined(worker) for worker, child in self._children.items() if child.has_joined]
        self._replace()

    def assign(self, worker: str, number: int, cells: Sequence[Cell]) -> None:
        if worker in self._children:
            self._children[worker].send(("cells", number, dump(list(cells))))

    def wait(self, timeout_s: float) -> list[Event]:
        connections = {child.connection: worker for worker, child in self._children.items()}
        events, self._events = self._events, []
        for ready in wait(list(connections), 0 if events else timeout_s):
            worker = connections[ready]  # type: ignore[index]
            events += self._hear(worker)
        self._replace()
        if not self._children:
            raise WorkError(f"child processes end before they are ready: {self._last}")
        return events

    def finish(self) -> None: ...

    def close(self) -> None:
        for child in self._children.values():
            child.end()
        self._children.clear()

    def _hear(self, worker: str) -> list[Event]:
        child = self._children[worker]
        try:
            told = child.connection.recv()
        except (EOFError, OSError):
            del self._children[worker]
            self._unfit += not child.has_joined
            self._last = child.end()
            return [Lost(worker, self._last)]
        if told == "joined":
            child.has_joined, self._unfit = True, 0
            return [Joined(worker)]
        return [Answered(worker, *told)]

    def _replace(self) -> None:
        while len(self._children) < self._count and self._unfit < UNFIT and self._round is not None:
            self._made += 1
            child = _Child()
            child.send(sys.path)
            child.send(("round", *self._round))
            self._children[f"process {self._made}"] = child


class _Child:
    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "rayopt.search.processes", str(theirs.fileno())]
            paths = os.pathsep.join(path for path in sys.path if path)
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": paths},
            )
        self.connection: Connection = Connection(ours.detach())
        self.has_joined = False

    def send(self, value: Any) -> None:
        with contextlib.suppress(OSError):  # that it is gone is heard when it is next listened to
            self.connection.send(value)

    def end(self) -> str:
        """Ends the process, if it has not ended itself; gives how."""
        self.connection.close()
        code = self._process.poll()
        if code is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(0.2)
        self._process.kill()
        self._process.wait()
        if code is not None and code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended with exit code {code}"


def main(handle: int) -> None:
    """What a child does: a round's batch, cells, and results back, until the other end is closed."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    connection: Connection = Connection(handle)
    sys.path[:] = connection.recv()
    rounds: dict[int, tuple[bytes, float | None]] = {}
    hands = Hands(lambda number: _loads(rounds[number][0]))
    import sklearn.model_selection  # noqa: F401 - a worker that has joined is ready

    connection.send("joined")
    while True:
        what, number, content, *more = connection.recv()
        if what == "round":
            rounds = {number: (content, more[0])}
            continue
        for answers in hands.work(number, _loads(content), rounds[number][1]):
            connection.send((number, answers))


def _loads(content: bytes) -> Any:
    return pickle.loads(content)  # noqa: S301 - of our parent's making


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone: who kills that must not leave us behind."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    with contextlib.suppress(EOFError, OSError):
        main(int(sys.argv[1]))
