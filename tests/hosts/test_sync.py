"""`rayopt cluster sync`, and clusters of one node: on a host whose environment is its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.hosts.clusters import prepare, rayopt
from tests.hosts.world import REPOSITORY, World

PYTHON = f"{sys.prefix}/bin/python"
LOCAL = REPOSITORY / "cluster" / "local.yaml"


@pytest.fixture
def file(world: World) -> Path:
    """The head's environment is a virtual one of its own, with all libraries and without rayopt."""
    path = prepare(world)
    head = world["head"]
    environment = head.home / "rayopt-env"
    libraries = head.run([PYTHON, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).stdout.strip()
    head.run(["rm", environment])
    head.run([PYTHON, "-m", "venv", environment])
    site = head.run([f"{environment}/bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
    head.write(f"{site.stdout.strip()}/shared.pth", f"{libraries}\n")
    script = Path(sys.prefix, "bin", "ray").read_text().splitlines()
    head.write(environment / "bin" / "ray", "\n".join([f"#!{environment}/bin/python", *script[1:]]) + "\n", 0o755)
    head.write(".bashrc", "")
    return path


def test_a_host_gets_the_rayopt_that_is_here(world: World, file: Path) -> None:
    client, head = world["client"], world["head"].address
    refused = rayopt(client, "cluster", "up", file)
    checked = rayopt(client, "cluster", "sync", file, "--check")
    mended = rayopt(client, "cluster", "sync", file)
    again = rayopt(client, "cluster", "sync", file, "--check")
    assert refused.returncode == 1
    assert "rayopt's files missing (here " in refused.stderr
    assert checked.returncode == 1
    assert f"{head}: differs: rayopt's files missing" in checked.stdout
    assert f"{world['one'].address}: the same as here" in checked.stdout
    assert (mended.returncode, f"{head}: mended: rayopt's files" in mended.stdout) == (0, True), mended.stdout
    assert (again.returncode, again.stdout.count("the same as here")) == (0, 3)
    run = world["head"].run([world["head"].home / "rayopt-env" / "bin" / "rayopt", "--version"], env={"PYTHONPATH": ""})
    assert "rayopt" in run.stdout


def test_this_machine_as_a_cluster(world: World) -> None:
    host = world["two"]
    up = rayopt(host, "cluster", "up", LOCAL)
    status = rayopt(host, "cluster", "status", LOCAL)
    doctor = rayopt(host, "doctor", "--cluster", LOCAL)
    processes = " ".join(host.processes().values())
    down = rayopt(host, "cluster", "down", LOCAL)
    assert up.returncode == 0, up.stderr
    assert "1 of 1 nodes are there" in up.stdout
    assert "1 of 1 nodes are there" in status.stdout
    assert "this host alone" in doctor.stdout
    assert "gcs_server" in processes
    assert down.returncode == 0, down.stderr
    assert not host.processes()
