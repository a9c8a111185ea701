"""Jobs whose steps take their time and leave traces on the hosts that they ran on, submitted from the client."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hosts.clusters import RAYOPT
from tests.hosts.world import REPOSITORY, Host, World

STEPS = 24
WAIT_S = 240  # of waits that only a fault lasts longer than, on a busy machine too
WORKERS = ("head", "one", "two")
METHOD = '''"""Takes its time, and leaves a line on the host that it ran on when it begins and when it ends."""
import time
from pathlib import Path
from rayopt.records import Artifact
from rayopt.spec import Settings
accepts, gives, version = "onnx", "onnx", 1
class Params(Settings):
    n: int = 0
    case: str = ""
    seconds: float = 1.5
def leave(params, event):
    with (Path.home() / f"trace-{params.case}").open("a") as file:
        file.write(f"{event} {params.n} {time.time()}\\n")
def apply(model, params, context):
    leave(params, "begin")
    time.sleep(params.seconds)
    text = f"{params.case} {params.n}".encode()
    changed = model.files["model.onnx"] + bytes([6 << 3 | 2, len(text)]) + text  # a ModelProto's doc_string
    leave(params, "end")
    return Artifact("onnx", {"model.onnx": changed})
'''
JOB = {
    "kind": "optimize",
    "model": {"factory": "rayopt.models.zoo:resnet", "args": {"channels": 1, "classes": 10, "widths": [4]}},
    "data": {"source": "digits"},
    "train": {"epochs": 1},
    "max_accuracy_drop": 0.5,
    "measure": {"batch_sizes": [1], "timing_s": 0.01},
}
# What of Ray runs on a host, by what its command lines hold; none of these kills the shell that says it.
KILL = "for pid in $(pgrep -f '{what}'); do kill -9 $pid; done; true"
RAYLET = ("[r]aylet/raylet",)
HEAD = ("[g]cs_server", "[r]aylet", "[r]ayopt run", "[d]ashboard")
CLIENT = ("[s]ubmit .*--cluster",)


def kill(host: Host, whats: Iterable[str]) -> None:
    host.run(["sh", "-c", ";".join(KILL.format(what=what) for what in whats)])


@dataclass(frozen=True)
class Trace:
    """A step that began or ended on a host, in seconds of the clock that all hosts share."""

    host: str
    event: str
    n: int
    at: float


def write_job(world: World, case: str) -> Path:
    """A job on the client, by the name of `case`, of `STEPS` steps that nothing but their traces tells apart."""
    steps = [{"use": "tracing.method", "n": n, "case": case} for n in range(STEPS)]
    client = world["client"]
    client.write(f"{case}/tracing/method.py", METHOD)
    client.write(f"{case}/tracing/__init__.py", "")
    client.write(f"{case}/job.yaml", json.dumps({**JOB, "name": case, "steps": [{"any": steps}]}))
    return client.home / case / "job.yaml"


def traces(world: World, case: str) -> list[Trace]:
    """What steps have left on the hosts that are still there."""
    found = []
    for name in WORKERS:
        if world[name].alive:
            said = world[name].run(["sh", "-c", f"cat ~/trace-{case} 2>/dev/null || true"]).stdout
            lines = (line.split() for line in said.splitlines())
            found += [Trace(name, event, int(n), float(at)) for event, n, at in lines]
    return found


def begun(found: Iterable[Trace]) -> Counter[int]:
    """How often each step was begun."""
    return Counter(one.n for one in found if one.event == "begin")


def until(question: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not question():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def has_traces(world: World, name: str, case: str) -> bool:
    return world[name].run(["sh", "-c", f"test -s ~/trace-{case}"], check=False).returncode == 0


class Submitted:
    """A job that is followed by a command on the client."""

    def __init__(self, world: World, file: Path, job: Path) -> None:
        self.world, self.case, self.began = world, job.parent.name, time.monotonic()
        words = [*RAYOPT, "submit", job, "--cluster", file]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = world["client"].popen(words, where=REPOSITORY, **pipes)

    def until_works(self, name: str) -> None:
        """Until a host works on a step."""
        until(lambda: self._goes_on() and has_traces(self.world, name, self.case), f"{name} does nothing")

    def until_all_work(self) -> None:
        for name in WORKERS:
            self.until_works(name)

    def end(self) -> tuple[str, float]:
        """What it has said, and how many seconds it took, once it has ended right."""
        out, err = self.process.communicate(timeout=2 * WAIT_S)
        seconds = time.monotonic() - self.began
        assert self.process.returncode == 0, f"{out[-3000:]}\n{err[-3000:]}"
        assert any(f"{count} candidates measured, 0 failed" in out for count in (STEPS, STEPS + 1)), out[-3000:]
        return f"{out}{err}", seconds

    def stop(self) -> None:
        """Ends the command; the job goes on."""
        kill(self.world["client"], CLIENT)
        self.process.communicate()

    def _goes_on(self) -> bool:
        assert self.process.poll() is None, "".join(map(str, self.process.communicate()))
        return True
