"""A cluster of test hosts by the clock, and its ports as a stranger finds them. Needs root.

python tests/benchmarks/cluster.py notice [ROUNDS]     up, down, and when Ray counts a silent or dead host as gone
python tests/benchmarks/cluster.py faults [NAME ...]   what a fault costs a job: with it, without it, what is done again
python tests/benchmarks/cluster.py ports               every port, and what strangers are answered there
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tests.hosts import tracing
from tests.hosts.clusters import prepare, rayopt, up
from tests.hosts.ports import KNOCKS, knock, table
from tests.hosts.tracing import CLIENT, HEAD, RAYLET, Submitted, Trace, begun, kill, traces, write_job
from tests.hosts.world import World

SILENCE_S = 20.0
WATCH = """
import sys, time
from pathlib import Path
from rayopt.cluster.dashboard import Dashboard
from rayopt.cluster.files import read_cluster
from rayopt.cluster.token import token_of
from rayopt.cluster.tunnel import open_tunnel

cluster = read_cluster(Path(sys.argv[1]))
with open_tunnel(cluster) as url:
    dashboard = Dashboard(url, token_of(cluster))
    print("watching", flush=True)
    began, limit = time.monotonic(), float(sys.argv[3])
    while time.monotonic() - began < limit:
        if not any(node.alive for node in dashboard.nodes() if node.address == sys.argv[2]):
            print(f"{time.monotonic() - began:.1f}")
            break
        time.sleep(0.1)
"""


def noticed(world: World, file: Path, name: str, limit_s: float) -> subprocess.Popen[str]:
    """A watch over a host, from the client, that ends when Ray counts the host as dead."""
    code = [f"{sys.prefix}/bin/python", "-c", WATCH, str(file), world[name].address, str(limit_s)]
    watch = world["client"].popen(code, stdout=subprocess.PIPE)
    assert watch.stdout is not None
    assert watch.stdout.readline() == "watching\n"
    return watch


def notice(world: World, file: Path) -> None:
    watch = noticed(world, file, "two", SILENCE_S + 15)
    world.cut("two")
    time.sleep(SILENCE_S)
    world.mend("two")
    print(f"a link cut for {SILENCE_S:g} s: dead after {watch.communicate()[0].strip() or 'never'}", flush=True)
    watch = noticed(world, file, "one", 120)
    kill(world["one"], RAYLET)
    print(f"a raylet killed: dead after {watch.communicate()[0].strip()} s", flush=True)
    watch = noticed(world, file, "two", 120)
    world.cut("two")
    print(f"a link cut for good: dead after {watch.communicate()[0].strip()} s", flush=True)
    world.mend("two")
    print(up(world, file).strip(), flush=True)
    began = time.monotonic()
    rayopt(world["client"], "cluster", "down", file, "--yes")
    print(f"down: {time.monotonic() - began:.1f} s", flush=True)


@dataclass(frozen=True)
class Cost:
    """What a fault has cost a job: `seconds` from its submission to its right end, `again` steps that were begun twice.

    rerun_s: from the fault until the last step that was lost by it has begun elsewhere, None where none was.
    """

    fault: str
    seconds: float
    after_fault_s: float
    again: int
    rerun_s: float | None


def cost(world: World, file: Path, name: str) -> Cost:
    """Runs a job of its own, with the fault of that name once every host works."""
    job = write_job(world, f"fault-{list(FAULTS).index(name)}")
    submitted = Submitted(world, file, job)
    submitted.until_all_work()
    before, struck, began = traces(world, submitted.case), time.time(), submitted.began
    seconds = FAULTS[name](world, file, submitted)
    found = sorted({*before, *traces(world, submitted.case)}, key=lambda one: one.at)
    whole = time.monotonic() - began if seconds is None else seconds
    counts = begun(found)
    return Cost(name, whole, time.time() - struck, counts.total() - len(counts), rerun_s(found, struck))


def rerun_s(found: Sequence[Trace], struck: float) -> float | None:
    """Seconds from the fault until the last lost step was begun a second time; `found` is in the order of time."""
    first: set[int] = set()
    late = []
    for one in found:
        if one.event == "begin":
            late += [one.at - struck] if one.n in first else []
            first.add(one.n)
    return max(late, default=None)


def nothing(world: World, file: Path, submitted: Submitted) -> float:
    return submitted.end()[1]


def client_gone(world: World, file: Path, submitted: Submitted) -> None:
    kill(world["client"], CLIENT)
    submitted.process.communicate()
    followed = rayopt(world["client"], "jobs", "logs", submitted.case, "--follow", "--cluster", file)
    assert followed.returncode == 0, followed.stderr


def client_cut(world: World, file: Path, submitted: Submitted) -> float:
    return silence(world, submitted, "client")


def worker_cut(world: World, file: Path, submitted: Submitted) -> float:
    return silence(world, submitted, "one")


def silence(world: World, submitted: Submitted, name: str) -> float:
    world.cut(name)
    time.sleep(SILENCE_S)
    world.mend(name)
    return submitted.end()[1]


def raylet_killed(world: World, file: Path, submitted: Submitted) -> float:
    kill(world["two"], RAYLET)
    seconds = submitted.end()[1]
    up(world, file)
    return seconds


def head_killed(world: World, file: Path, submitted: Submitted) -> None:
    kill(world["head"], HEAD)
    submitted.stop()
    up(world, file)
    Submitted(world, file, world["client"].home / submitted.case / "job.yaml").end()


def worker_cut_for_good(world: World, file: Path, submitted: Submitted) -> float:
    world.cut("one")
    seconds = submitted.end()[1]
    world.mend("one")
    up(world, file)
    return seconds


def plug_pulled(world: World, file: Path, submitted: Submitted) -> float:
    world.pull_plug("two")
    return submitted.end()[1]


FAULTS: dict[str, Callable[[World, Path, Submitted], float | None]] = {
    "none": nothing,
    "client gone": client_gone,
    "client's link cut 20 s": client_cut,
    "worker's link cut 20 s": worker_cut,
    "raylet killed": raylet_killed,
    "head killed": head_killed,
    "worker's link cut for good": worker_cut_for_good,
    "plug pulled": plug_pulled,  # the last: that host does not come back
}


def faults(world: World, file: Path, names: Sequence[str]) -> None:
    chosen = [name for name in FAULTS if name == "none" or not names or name in names]
    costs = [cost(world, file, name) for name in chosen]
    print(
        f"{'fault':<28} {'job s':>6} {'costs s':>8} {'begun again':>12} {'rerun after s':>14}   {tracing.STEPS} steps"
    )
    for one in costs:
        rerun = "-" if one.rerun_s is None else f"{one.rerun_s:.1f}"
        more = one.seconds - costs[0].seconds
        print(f"{one.fault:<28} {one.seconds:6.1f} {more:8.1f} {one.again:12} {rerun:>14}")
    print(json.dumps({"load": os.getloadavg()[0], "faults": [asdict(one) for one in costs]}))


def ports(world: World, file: Path) -> None:
    told = json.loads(rayopt(world["client"], "doctor", "--cluster", file, "--json").stdout)["listening"]
    for name in ("head", "one"):  # two is as one
        answers = knock(world["stranger"], world[name], KNOCKS[name])
        print(table(name, told[world[name].address], answers), flush=True)


def on_hosts(part: Callable[[World, Path], None]) -> None:
    """Runs a part on a cluster of its own."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place, World(Path(place)) as world:
        print(f"hosts: {time.monotonic() - began:.1f} s", flush=True)
        file = prepare(world)
        print(up(world, file).strip(), flush=True)
        part(world, file)


def main(part: str, words: Sequence[str]) -> None:
    if part == "notice":
        for _ in range(int(words[0]) if words else 1):
            on_hosts(notice)
    elif part == "faults":
        on_hosts(lambda world, file: faults(world, file, words))
    elif part == "ports":
        on_hosts(ports)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:])
