"""cluster/onprem.yaml for the test hosts, and the commands of rayopt on the client."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hosts.world import REPOSITORY, Host, World

RAYOPT = (f"{sys.prefix}/bin/python", "-c", "from rayopt.cli import main; main()")
FILE = Path("onprem.yaml")
TOKEN = Path(".rayopt/clusters/rayopt-onprem.token")
UPS = 6
CPUS = 2  # that a host says it has, so that the tests are the same on every machine


def prepare(world: World, workers: tuple[str, ...] = ("one", "two")) -> Path:
    """Gives the hosts the environment that onprem.yaml looks for, and the client that file with their addresses."""
    for name in ("head", *workers):
        world[name].run(["ln", "-sfn", sys.prefix, world[name].home / "rayopt-env"])
        world[name].write(".bashrc", f"export PYTHONPATH={REPOSITORY}\n")
    text = (REPOSITORY / "cluster" / "onprem.yaml").read_text()
    addresses = ", ".join(world[name].address for name in workers)
    for old, new in (
        ("head_ip: 192.0.2.10", f"head_ip: {world['head'].address}"),
        ("[192.0.2.11, 192.0.2.12]", f"[{addresses}]"),
        ("ssh_user: ray", "ssh_user: root"),
        ("ray start --head", f"ray start --num-cpus={CPUS} --head"),
        ("ray start --address", f"ray start --num-cpus={CPUS} --address"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    world["client"].write(FILE, text)
    return world["client"].home / FILE


def rayopt(host: Host, *words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command of rayopt on a host, in the checkout; its exit code is for the test to judge."""
    return host.run([*RAYOPT, *words], check=False, where=REPOSITORY, **{"timeout": 600, **options})


def up(world: World, file: Path) -> str:
    """What `cluster up` says once all nodes are there; Ray gives a node 30 s to start, which a busy machine exceeds."""
    for _ in range(UPS):
        done = rayopt(world["client"], "cluster", "up", file)
        if done.returncode == 0:
            return done.stdout
    raise AssertionError(f"{done.stdout}\n{done.stderr}")


@dataclass(frozen=True)
class Ran:
    """A task that Ray has run, and the address of the host that it ran on."""

    name: str
    address: str


def ran(head: Host) -> list[Ran]:
    """The tasks that the cluster of a head has run."""
    nodes = {node["node_id"]: node["node_ip"] for node in _told(head, "nodes")}
    tasks = [one for one in _told(head, "tasks") if one["type"] == "NORMAL_TASK" and one["node_id"]]
    return [Ran(one["name"], nodes[one["node_id"]]) for one in tasks]


def _told(head: Host, what: str) -> list[dict[str, Any]]:
    """What the dashboard knows of its `nodes` or `tasks`."""
    kept = f"{head.home / TOKEN.parent}/{TOKEN.stem}.*{TOKEN.suffix}"  # on hosts the mark is in the name
    bearer = f"Authorization: Bearer {head.run(['bash', '-c', f'cat {kept}']).stdout.strip()}"
    url = f"http://127.0.0.1:8265/api/v0/{what}?detail=1&limit=10000"
    answer = json.loads(head.run(["curl", "-sf", "-H", bearer, url]).stdout)
    found: list[dict[str, Any]] = answer["data"]["result"]["result"]
    return found
