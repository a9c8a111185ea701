"""cluster/onprem.yaml for the test hosts, and the commands of rayopt on the client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.hosts.world import REPOSITORY, Host, World

RAYOPT = (f"{sys.prefix}/bin/python", "-c", "from rayopt.cli import main; main()")
FILE = Path("onprem.yaml")


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
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    world["client"].write(FILE, text)
    return world["client"].home / FILE


def rayopt(host: Host, *words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command of rayopt on a host, in the checkout; its exit code is for the test to judge."""
    return host.run([*RAYOPT, *words], check=False, where=REPOSITORY, **{"timeout": 240, **options})
