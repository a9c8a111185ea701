"""A cluster of test hosts by the clock: up, a raylet's death, a cut link that heals, one that does not. Needs root.

python tests/benchmarks/cluster.py [ROUNDS]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tests.hosts.clusters import prepare, rayopt
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


def one_round(folder: Path) -> None:
    began = time.monotonic()
    with World(folder) as world:
        print(f"hosts: {time.monotonic() - began:.1f} s", flush=True)
        file = prepare(world)
        print(rayopt(world["client"], "cluster", "up", file).stdout.strip(), flush=True)
        watch = noticed(world, file, "two", SILENCE_S + 15)
        world.cut("two")
        time.sleep(SILENCE_S)
        world.mend("two")
        print(f"a link cut for {SILENCE_S:g} s: dead after {watch.communicate()[0].strip() or 'never'}", flush=True)
        watch = noticed(world, file, "one", 120)
        world["one"].run(["pkill", "-KILL", "raylet"])
        print(f"a raylet killed: dead after {watch.communicate()[0].strip()} s", flush=True)
        watch = noticed(world, file, "two", 120)
        world.cut("two")
        print(f"a link cut for good: dead after {watch.communicate()[0].strip()} s", flush=True)
        world.mend("two")
        print(rayopt(world["client"], "cluster", "up", file).stdout.strip(), flush=True)
        began = time.monotonic()
        rayopt(world["client"], "cluster", "down", file, "--yes")
        print(f"down: {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
        with tempfile.TemporaryDirectory() as place:
            one_round(Path(place))
