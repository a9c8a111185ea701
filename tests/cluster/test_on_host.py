"""What runs on a host: processes known by their mark alone, ports beside psutil's, files for their owner."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rayopt.cluster import on_host
from rayopt.cluster.commands import program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="hosts of a cluster run Linux")


@pytest.fixture
def mark() -> str:
    return uuid.uuid4().hex


def start(code: str, **env: str) -> subprocess.Popen[str]:
    """A process that says a line and waits."""
    process = subprocess.Popen(
        ["bash", "-c", code], env={"PATH": os.environ["PATH"], **env}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.fixture
def processes(mark: str) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """One with the mark; one that will not end politely, with a child that has lost its environment; two others."""
    stubborn = "trap '' TERM; env -i sleep 100 & echo; wait; wait; sleep 100"
    found = {
        "plain": start("echo; exec sleep 100", RAYOPT_CLUSTER=mark),
        "stubborn": start(stubborn, RAYOPT_CLUSTER=mark),
        "unmarked": start("echo; exec sleep 100"),
        "other": start("echo; exec sleep 100", RAYOPT_CLUSTER=f"{mark}0", NOTE=f"RAYOPT_CLUSTER={mark}"),
    }
    yield found
    for process in found.values():
        for one in [*(psutil.Process(process.pid).children() if process.poll() is None else ()), process]:
            one.kill()
        process.communicate()


def test_clusters_of_the_same_name_from_elsewhere_are_found(mark: str) -> None:
    theirs = start("echo; exec sleep 100", RAYOPT_CLUSTER=f"{mark}0", RAYOPT_CLUSTER_NAME=f"of-{mark}")
    seen = [on_host.facts(one, [], f"of-{mark}")["others"] for one in (mark, f"{mark}0")]
    unnamed = on_host.facts(mark, [])["others"]
    theirs.kill()
    theirs.communicate()
    assert (seen, unnamed) == ([1, 0], 0)


def test_the_marked_and_their_children_are_found(mark: str, processes: dict[str, subprocess.Popen[str]]) -> None:
    child = psutil.Process(processes["stubborn"].pid).children()[0]
    found = on_host.marked(mark)
    assert found == {processes["plain"].pid, processes["stubborn"].pid, child.pid}
    assert on_host.facts(mark, [])["marked"] == 3
    assert on_host.facts("", [])["marked"] == 0


def test_only_the_marked_are_ended(
    mark: str, processes: dict[str, subprocess.Popen[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_host, "GRACE_S", 0.3)
    (tmp_path / "token").touch()
    said = on_host.stop(mark, [str(tmp_path / "token"), str(tmp_path / "none")])
    assert said["ended"] >= 3
    assert said["left"] == 0
    assert not (tmp_path / "token").exists()
    assert {name for name, process in processes.items() if process.poll() is None} == {"unmarked", "other"}
    assert on_host.stop(mark, []) == {"ended": 0, "left": 0}


def test_a_secret_is_its_owner_s(tmp_path: Path) -> None:
    path = tmp_path / "below" / "token"
    for content in ("first", "second"):
        on_host.keep({str(path): content, str(path.with_name("other")): "x"})
        assert path.read_text() == content
        assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert sorted(path.parent.iterdir()) == [path.with_name("other"), path]


def test_a_secret_that_others_may_use_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    on_host.keep({"~/kept": "a", "~/open": "b"})
    (tmp_path / "open").chmod(0o640)
    assert on_host.facts("", [], private=["~/kept", "~/open", "~/none"])["too_open"] == {"~/open": 0o640}


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_listening_ports_are_those_that_psutil_sees(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as server:
        server.bind((address, 0))
        server.listen()
        port = server.getsockname()[1]
        mine = [row for row in on_host.listening("")["ports"] if row["port"] == port]
        theirs = [
            one for one in psutil.Process().net_connections() if one.status == "LISTEN" and one.laddr.port == port
        ]
    assert [(row["address"], row["pid"], row["ours"]) for row in mine] == [(address, os.getpid(), False)]
    assert [one.laddr.ip for one in theirs] == [address]
    assert not [row for row in on_host.listening("")["ports"] if row["port"] == port]


def test_it_runs_as_a_program_of_its_own_with_the_standard_library_alone() -> None:
    source = program("facts", mark="", libraries=["ray", "nothing-of-that-name", "'\"\\"])
    done = subprocess.run([sys.executable, "-I", "-"], input=source, capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout)
    assert facts["python"] == platform.python_version()
    assert list(facts["versions"]) == ["ray"]
    assert facts["memory_bytes"] == psutil.virtual_memory().total
    assert "127.0.0.1" in facts["addresses"]
    bare = subprocess.run([sys.executable, "-I", "-S", "-"], input=source, capture_output=True, text=True, check=True)
    assert json.loads(bare.stdout)["versions"] == {}


def test_a_hash_of_sources_follows_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_package_of_ours"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("1")
    monkeypatch.syspath_prepend(str(tmp_path))
    first = on_host.sources_of(package.name)
    assert first == on_host.sources_of(package.name)
    (package / "data.txt").write_text("not code")
    assert on_host.sources_of(package.name) == first
    (package / "one.py").write_text("2")
    second = on_host.sources_of(package.name)
    (package / "one.py").rename(package / "two.py")
    assert len({first, second, on_host.sources_of(package.name)}) == 3
    assert on_host.sources_of("no_package_of_that_name") == ""
