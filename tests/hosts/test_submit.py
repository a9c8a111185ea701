"""Jobs that are submitted from a fourth host, while hosts, raylets, cables, the client and the head go.

In every case the job ends right, what was finished is not done again, and only what was in flight on what died is.
How long each takes is measured by tests/benchmarks/cluster.py, with the same jobs.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.clusters import CPUS, RAYOPT, prepare, ran, rayopt, up
from tests.hosts.tracing import CLIENT, HEAD, RAYLET, STEPS, WAIT_S, Submitted, begun, kill, traces, until, write_job
from tests.hosts.world import REPOSITORY, World

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def file(world: World) -> Path:
    """The cluster file on the client, whose cluster is up."""
    path = prepare(world)
    up(world, path)
    return path


@pytest.fixture
def job(world: World, request: pytest.FixtureRequest) -> Path:
    """A job on the client whose steps leave traces; its name is the test's."""
    return write_job(world, request.node.name.removeprefix("test_").partition("[")[0].replace("_", "-")[:40])


@pytest.fixture
def submitted(world: World, file: Path, job: Path) -> Iterator[Submitted]:
    one = Submitted(world, file, job)
    yield one
    one.stop()


def ended(submitted: Submitted, again_at_most: int, lost: bool = False) -> str:
    """What it said, once it has ended right; at most so many steps were begun more than once.

    lost: a host is gone with the traces on it.
    """
    said, _ = submitted.end()
    counts = begun(traces(submitted.world, submitted.case))
    if not lost:
        assert set(counts) == set(range(STEPS))
    assert counts.total() - len(counts) <= again_at_most, counts
    return said


def test_the_quickstart_gives_the_same_as_at_home(world: World, file: Path, tmp_path: Path) -> None:
    """First, while all three hosts are there. What the clock decides is left out: the smallest model is recommended."""
    client = world["client"]
    client.write("quick/job.yaml", (REPOSITORY / "jobs" / "quickstart.yaml").read_text())
    same = ["--set", "objective=size", "--set", "keep=all"]
    done = rayopt(client, "submit", client.home / "quick" / "job.yaml", "--cluster", file, *same)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert {world[name].address for name in ("one", "two")} <= {one.address for one in ran(world["head"])}
    fetched = rayopt(client, "jobs", "fetch", "quickstart", "--cluster", file, "--out", client.home / "home")
    assert fetched.returncode == 0, fetched.stderr
    local = tmp_path / "local"
    words = ["run", REPOSITORY / "jobs" / "quickstart.yaml", "--out", local, "--address", "inprocess", *same]
    subprocess.run([*RAYOPT, *words], check=True, capture_output=True, cwd=REPOSITORY)
    there, here = json.loads(client.read("home/summary.json")), json.loads((local / "summary.json").read_text())
    assert there["recommended"]["id"] == here["recommended"]["id"]
    models = {path.parent.name: path for path in (local / "artifacts").glob("*/model.onnx")}
    assert len(models) == len(here["candidates"]) + 1
    wanted = {id: hashlib.sha256(path.read_bytes()).hexdigest() for id, path in models.items()}
    hashes = client.run(["sh", "-c", "cd ~/home/artifacts && sha256sum */model.onnx"]).stdout
    assert {line.split()[1].partition("/")[0]: line.split()[0] for line in hashes.splitlines()} == wanted


def test_the_client_goes_and_another_follows(world: World, file: Path, job: Path, submitted: Submitted) -> None:
    submitted.until_all_work()
    kill(world["client"], CLIENT)
    submitted.process.communicate(timeout=WAIT_S)
    followed = rayopt(world["client"], "jobs", "logs", job.parent.name, "--follow", "--cluster", file)
    assert followed.returncode == 0, followed.stderr
    assert "candidates measured, 0 failed" in followed.stdout
    assert begun(traces(world, job.parent.name)) == Counter(range(STEPS))


def test_the_clients_cable_is_out_for_a_while(world: World, file: Path, submitted: Submitted) -> None:
    submitted.until_all_work()
    world.cut("client")
    time.sleep(20)
    world.mend("client")
    said = ended(submitted, again_at_most=0)
    assert "the connection is lost" in said
    assert "the connection is back" in said


def test_a_workers_cable_is_out_for_20_s(world: World, file: Path, submitted: Submitted) -> None:
    submitted.until_all_work()
    world.cut("one")
    time.sleep(20)
    world.mend("one")
    ended(submitted, again_at_most=2 * CPUS)


def test_the_disk_of_a_worker_fills(world: World, file: Path, submitted: Submitted) -> None:
    """What Ray keeps of itself lies there: its logs, and what does not fit into memory."""
    submitted.until_all_work()
    two = world["two"]
    full = "mount -o remount,size=$(($(du -sk /tmp | cut -f1) + 512))k /tmp; cat /dev/zero > /tmp/full"
    assert "No space left" in two.run(["sh", "-c", full], check=False).stderr
    ended(submitted, again_at_most=CPUS)
    two.run(["sh", "-c", "rm /tmp/full; mount -o remount,size=50% /tmp"])


def test_a_raylet_is_killed(world: World, file: Path, submitted: Submitted) -> None:
    submitted.until_all_work()
    kill(world["two"], RAYLET)
    ended(submitted, again_at_most=CPUS)
    up(world, file)


def test_the_head_is_killed_and_the_job_goes_on_where_it_was(
    world: World, file: Path, job: Path, submitted: Submitted
) -> None:
    submitted.until_all_work()
    until(lambda: len(begun(traces(world, submitted.case))) > STEPS // 2, "the job does not go on")
    kill(world["head"], HEAD)
    submitted.stop()
    up(world, file)
    again = Submitted(world, file, job)
    ended(again, again_at_most=3 * CPUS)


def test_a_workers_cable_is_cut_for_good(world: World, file: Path, submitted: Submitted) -> None:
    submitted.until_all_work()
    world.cut("one")
    ended(submitted, again_at_most=CPUS)


def test_the_plug_of_a_worker_is_pulled(world: World, file: Path, submitted: Submitted) -> None:
    submitted.until_works("two")
    world.pull_plug("two")
    ended(submitted, again_at_most=0, lost=True)
