"""The test hosts themselves: apart from each other and from this machine, and gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.hosts.world import NAMES, REPOSITORY, World


def test_hosts_have_names_homes_and_folders_of_their_own(world: World) -> None:
    for name in NAMES:
        world[name].write("/tmp/mine", name)
        assert world[name].run(["hostname"]).stdout.strip() == name
    assert [world[name].read("/tmp/mine") for name in NAMES] == list(NAMES)
    assert not Path("/tmp/mine").exists()
    assert os.uname().nodename not in NAMES


def test_hosts_share_this_python_and_cannot_write_it(world: World) -> None:
    done = world["head"].run([f"{sys.prefix}/bin/python", "-c", "import rayopt, sys; print(sys.prefix)"])
    assert done.stdout.strip() == sys.prefix
    for folder in (sys.prefix, REPOSITORY, "/etc"):
        tried = world["head"].run(["touch", f"{folder}/written"], check=False)
        assert "Read-only file system" in tried.stderr
    assert not (REPOSITORY / "written").exists()


def test_every_host_lets_in_who_has_the_key(world: World) -> None:
    options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"]
    for name in NAMES:
        done = world["client"].run(["ssh", *options, f"root@{world[name].address}", "hostname"])
        assert done.stdout.strip() == name
    world["stranger"].run(["rm", world["stranger"].home / ".ssh" / "id_ed25519"])
    refused = world["stranger"].run(["ssh", *options, f"root@{world['head'].address}", "hostname"], check=False)
    assert refused.returncode == 255
    assert "Permission denied" in refused.stderr


def test_a_cut_link_is_silent_and_can_be_mended(world: World) -> None:
    assert world["client"].reaches(world["one"])
    world.cut("one")
    assert not world["client"].reaches(world["one"])
    assert world["client"].reaches(world["two"])
    world.mend("one")
    assert world["client"].reaches(world["one"])


def test_a_pulled_plug_ends_all_that_ran_there(world: World) -> None:
    with world["two"].popen(["bash", "-c", "echo there; exec sleep 1000.25"], stdout=subprocess.PIPE) as sleeper:
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == "there\n"
        world.pull_plug("two")
    assert sleeper.returncode != 0
    assert "sleep 1000.25" not in subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True).stdout
    assert not world["client"].reaches(world["two"])
    assert not world["two"].alive
