"""Hosts on which no cluster can be started, or not all of it: each is named with the reason, and the others start."""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path

import pytest

from tests.hosts.clusters import FILE, prepare, rayopt
from tests.hosts.world import World

PYTHON = f"{sys.prefix}/bin/python"


@pytest.fixture
def file(world: World) -> Path:
    return prepare(world)


def test_no_cluster_without_its_head(world: World, file: Path) -> None:
    world.cut("head")
    done = rayopt(world["client"], "cluster", "up", file)
    world.mend("head")
    assert done.returncode == 1
    assert f"no cluster without its head: {world['head'].address}: " in done.stderr
    assert "check that it is up and the address is right" in done.stderr
    assert not world["one"].processes()


def test_a_wrong_key_is_said(world: World, file: Path) -> None:
    client = world["client"]
    client.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", client.home / "wrong"])
    client.write("wrong.yaml", client.read(file).replace("~/.ssh/id_ed25519", "~/wrong"))
    probed = rayopt(client, "cluster", "validate", client.home / "wrong.yaml", "--probe")
    done = rayopt(client, "cluster", "up", client.home / "wrong.yaml")
    assert (probed.returncode, done.returncode) == (1, 1)
    assert probed.stdout.count("refuses the key or the user; check ssh_user and ssh_private_key") == 3
    assert "refuses the key or the user" in done.stderr


def test_a_host_key_that_has_changed_is_refused(world: World, file: Path) -> None:
    client, one = world["client"], world["one"].address
    assert rayopt(client, "cluster", "validate", file, "--probe").returncode == 0
    known = client.read(".ssh/known_hosts")
    client.run(["bash", "-c", f"ssh-keygen -q -R {one} && ssh-keygen -q -t ed25519 -N '' -f ~/other"])
    kind, key, *_ = client.read("other.pub").split()
    client.write(".ssh/known_hosts", f"{client.read('.ssh/known_hosts')}{one} {kind} {key}\n")
    probed = rayopt(client, "cluster", "validate", file, "--probe")
    client.write(".ssh/known_hosts", known)
    assert probed.returncode == 1
    assert f"{one}: its host key has changed; if that is right, run ssh-keygen -R {one}" in probed.stdout


def test_another_python_is_refused(world: World, file: Path) -> None:
    """The head says that its Python is another one: there is but one on the machine that the hosts are made of."""
    head = world["head"]
    head.write("other/sitecustomize.py", "import platform\nplatform.python_version = lambda: '3.9.2'\n")
    head.write(".bashrc", f"{head.read('.bashrc')}export PYTHONPATH=$HOME/other:$PYTHONPATH\n")
    done = rayopt(world["client"], "cluster", "up", file)
    assert done.returncode == 1
    assert f"{head.address}: has Python 3.9.2 (here {platform.python_version()})" in done.stderr
    assert not head.processes()
    assert not world["one"].processes()


def test_what_cannot_be_used_is_named_and_the_rest_is_started(world: World, file: Path) -> None:
    """One worker has another Ray, the other a full disk; then one of them is mended, and the other's plug pulled."""
    client, one, two = world["client"], world["one"], world["two"]
    one.write("older/ray-2.59.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: ray\nVersion: 2.59.0\n")
    one.write(".bashrc", f"{one.read('.bashrc')}export PYTHONPATH=$HOME/older:$PYTHONPATH\n")
    two.run(["mount", "-o", "remount,size=4m", "/tmp"])
    first = rayopt(client, "cluster", "up", file)
    assert first.returncode == 1
    assert "1 of 3 nodes are there" in first.stdout
    assert f"missing {one.address}: has ray 2.59.0 (here 2.60.0); run `rayopt cluster sync" in first.stderr
    assert f"missing {two.address}: has " in first.stderr
    assert "MiB free in /tmp, where Ray keeps its sessions" in first.stderr
    assert not one.processes()
    two.run(["mount", "-o", "remount,size=50%", "/tmp"])
    world.pull_plug("one")
    second = rayopt(client, "cluster", "up", file)
    assert second.returncode == 1
    assert "2 of 3 nodes are there" in second.stdout
    gone = "(does not answer|cannot be reached); check that it is up"  # the latter once no one has its address
    assert re.search(rf"missing {re.escape(one.address)}: {gone}", second.stderr)
    down = rayopt(client, "cluster", "down", file, "--yes")
    assert down.returncode == 1
    assert re.search(rf"not ended: {re.escape(one.address)}: {gone}", down.stderr)
    assert not world["head"].processes()
    assert not two.processes()
    state = client.read(".rayopt/clusters/rayopt-onprem.json")
    assert one.address in state  # so that `down` can be repeated once the host is back


def test_one_name_is_one_cluster(world: World) -> None:
    """The state of the test before is still there: its `down` has not ended everywhere."""
    client = world["client"]
    file = client.home / FILE
    other = client.home / "other.yaml"
    text = client.read(file).replace(f"head_ip: {world['head'].address}", f"head_ip: {world['stranger'].address}")
    client.write(other, text)
    done = rayopt(client, "cluster", "up", other)
    assert done.returncode == 2
    assert f"the head {world['head'].address} is up, started from {file}" in done.stderr
