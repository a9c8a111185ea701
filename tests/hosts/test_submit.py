"""Jobs that are submitted from a fourth host, while hosts, raylets, cables, the client and the head go.

In every case the job ends right, what was finished is not done again, and only what was in flight on what died is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.clusters import RAYOPT, prepare, rayopt
from tests.hosts.world import REPOSITORY, World

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SLOTS = 2  # steps that a host works on at a time
STEPS = 24
WAIT_S = 60
METHOD = '''"""Takes its time, and leaves a line on the host that it ran on."""
import time
from pathlib import Path
import onnx
from rayopt.records import Artifact, Need
from rayopt.spec import Settings
accepts, gives, version = "onnx", "onnx", 1
class Params(Settings):
    n: int = 0
    case: str = ""
    seconds: float = 1.5
def apply(model, params, context):
    with (Path.home() / f"trace-{params.case}").open("a") as file:
        file.write(f"{params.n}\\n")
    time.sleep(params.seconds)
    changed = onnx.load_from_string(model.files["model.onnx"])
    changed.doc_string = f"{params.case} {params.n}"
    return Artifact("onnx", {"model.onnx": changed.SerializeToString()})
'''
JOB = {
    "kind": "optimize",
    "model": {"factory": "rayopt.models.zoo:resnet", "args": {"channels": 1, "classes": 10, "widths": [4]}},
    "data": {"source": "digits"},
    "train": {"epochs": 1},
    "max_accuracy_drop": 0.5,
    "measure": {"batch_sizes": [1], "timing_s": 0.01},
}
# What of Ray runs on a host, by what its command lines hold.
KILL = "for pid in $(pgrep -f '{what}'); do kill -9 $pid; done; true"


@pytest.fixture(scope="module")
def file(world: World) -> Path:
    """The cluster file on the client, whose cluster is up."""
    path = prepare(world)
    up(world, path)
    return path


def up(world: World, file: Path) -> None:
    done = rayopt(world["client"], "cluster", "up", file)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.fixture
def job(world: World, request: pytest.FixtureRequest) -> Path:
    """A job on the client whose steps leave traces; its name is the test's."""
    case = request.node.name.removeprefix("test_").partition("[")[0].replace("_", "-")[:40]
    fields = {**JOB, "name": case, "steps": [{"any": [step(case, n) for n in range(STEPS)]}]}
    client = world["client"]
    client.write(f"{case}/tracing/method.py", METHOD)
    client.write(f"{case}/tracing/__init__.py", "")
    client.write(f"{case}/job.yaml", json.dumps(fields))
    return client.home / case / "job.yaml"


def step(case: str, n: int) -> dict[str, Any]:
    return {"use": "tracing.method", "n": n, "case": case}


def traces(world: World, case: str) -> Counter[int]:
    """How often each step was begun, on the hosts that are still there."""
    found: Counter[int] = Counter()
    for name in ("head", "one", "two"):
        if world[name].alive:
            lines = world[name].run(["sh", "-c", f"cat ~/trace-{case} 2>/dev/null || true"]).stdout.split()
            found.update(map(int, lines))
    return found


def until(question: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not question():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def traced(world: World, name: str, case: str) -> bool:
    return world[name].run(["sh", "-c", f"test -s ~/trace-{case}"], check=False).returncode == 0


class Submitted:
    """A job that is followed by a command on the client."""

    def __init__(self, world: World, file: Path, job: Path) -> None:
        self.world, self.case, self.began = world, job.parent.name, time.monotonic()
        words = [*RAYOPT, "submit", job, "--cluster", file]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = world["client"].popen(words, where=REPOSITORY, **pipes)

    def until_all_work(self) -> None:
        """Until every host works on a step."""
        for name in ("head", "one", "two"):
            until(lambda name=name: self._goes_on() and traced(self.world, name, self.case), f"{name} does nothing")

    def _goes_on(self) -> bool:
        assert self.process.poll() is None, "".join(map(str, self.process.communicate()))
        return True

    def end(self, again_at_most: int, lost: bool = False) -> str:
        """Its output, once it has ended right; at most so many steps were begun more than once."""
        out, err = self.process.communicate(timeout=2 * WAIT_S)
        assert self.process.returncode == 0, f"{out[-3000:]}\n{err[-3000:]}"
        assert f"{STEPS + 1} candidates measured, 0 failed" in out or f"{STEPS} candidates measured, 0 failed" in out
        begun = traces(self.world, self.case)
        if not lost:
            assert set(begun) == set(range(STEPS))
        assert sum(begun.values()) - len(begun) <= again_at_most, begun
        again = sum(begun.values()) - len(begun)
        sys.stdout.write(f"{self.case}: {time.monotonic() - self.began:.1f} s, begun again {again}\n")
        return str(out) + str(err)


@pytest.fixture
def submitted(world: World, file: Path, job: Path) -> Iterator[Submitted]:
    one = Submitted(world, file, job)
    yield one
    one.process.kill()
    one.process.communicate()


def test_the_client_goes_and_another_follows(world: World, file: Path, job: Path, submitted: Submitted) -> None:
    submitted.until_all_work()
    inside = "submit .*--cluster"
    world["client"].run(["sh", "-c", KILL.format(what=inside.replace("submit", "[s]ubmit"))])
    submitted.process.communicate(timeout=WAIT_S)
    followed = rayopt(world["client"], "jobs", "logs", job.parent.name, "--follow", "--cluster", file)
    assert followed.returncode == 0, followed.stderr
    assert "candidates measured, 0 failed" in followed.stdout
    begun = traces(world, job.parent.name)
    assert begun == Counter(range(STEPS))


def test_the_clients_cable_is_out_for_a_while(world: World, file: Path, submitted: Submitted) -> None:
    submitted.until_all_work()
    world.cut("client")
    time.sleep(20)
    world.mend("client")
    said = submitted.end(again_at_most=0)
    assert "the connection is lost" in said
    assert "the connection is back" in said


def test_a_workers_cable_is_out_for_20_s(world: World, file: Path, submitted: Submitted) -> None:
    submitted.until_all_work()
    world.cut("one")
    time.sleep(20)
    world.mend("one")
    submitted.end(again_at_most=2 * SLOTS)


def test_a_raylet_is_killed(world: World, file: Path, submitted: Submitted) -> None:
    submitted.until_all_work()
    world["two"].run(["sh", "-c", KILL.format(what="[r]aylet/raylet")])
    submitted.end(again_at_most=SLOTS)
    up(world, file)


def test_the_head_is_killed_and_the_job_goes_on_where_it_was(
    world: World, file: Path, job: Path, submitted: Submitted
) -> None:
    case = job.parent.name
    submitted.until_all_work()
    until(lambda: len(traces(world, case)) > STEPS // 2, "the job does not go on")
    head = world["head"]
    head.run(
        [
            "sh",
            "-c",
            KILL.format(what="[g]cs_server")
            + ";"
            + KILL.format(what="[r]aylet")
            + ";"
            + KILL.format(what="[r]ayopt run")
            + ";"
            + KILL.format(what="[d]ashboard"),
        ]
    )
    submitted.process.kill()
    submitted.process.communicate()
    up(world, file)
    again = Submitted(world, file, job)
    said = again.end(again_at_most=3 * SLOTS)
    assert "candidates measured, 0 failed" in said


def test_a_workers_cable_is_cut_for_good(world: World, file: Path, submitted: Submitted) -> None:
    submitted.until_all_work()
    world.cut("one")
    submitted.end(again_at_most=SLOTS)


def test_the_plug_of_a_worker_is_pulled(world: World, file: Path, submitted: Submitted) -> None:
    case = submitted.case
    until(lambda: traced(world, "two", case), "two does nothing")
    world.pull_plug("two")
    submitted.end(again_at_most=0, lost=True)


def test_the_quickstart_gives_the_same_as_at_home(world: World, file: Path, tmp_path: Path) -> None:
    client = world["client"]
    client.write("quick/job.yaml", (REPOSITORY / "jobs" / "quickstart.yaml").read_text())
    began = time.monotonic()
    done = rayopt(client, "submit", client.home / "quick" / "job.yaml", "--cluster", file, "--name", "quickstart")
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    sys.stdout.write(f"quickstart: {time.monotonic() - began:.1f} s\n")
    fetched = rayopt(client, "jobs", "fetch", "quickstart", "--cluster", file, "--out", client.home / "home")
    assert fetched.returncode == 0, fetched.stderr
    local = [
        *RAYOPT,
        "run",
        REPOSITORY / "jobs" / "quickstart.yaml",
        "--out",
        tmp_path / "local",
        "--address",
        "inprocess",
    ]
    subprocess.run(local, check=True, capture_output=True)
    there = json.loads(client.read("home/summary.json"))
    here = json.loads((tmp_path / "local" / "summary.json").read_text())
    assert there["recommended"]["id"] == here["recommended"]["id"]
    hashes = client.run(["sh", "-c", "cd ~/home/artifacts && sha256sum */model.onnx"]).stdout
    mine = subprocess.run(
        ["sh", "-c", "sha256sum */model.onnx"],
        cwd=tmp_path / "local" / "artifacts",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found, wanted = (dict(reversed(line.split()) for line in text.splitlines()) for text in (hashes, mine))
    assert f"{there['recommended']['id']}/model.onnx" in found
    for name in set(found) & set(wanted):  # which others are on the front is decided by timings
        assert found[name] == wanted[name]
