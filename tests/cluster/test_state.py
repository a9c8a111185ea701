"""Tokens and what was started: for their owner alone, whole, and one command at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rayopt.cluster.files import ClusterFile, read_cluster
from rayopt.cluster.state import Started, drop_state, head_of, only_one, read_state, state_path, write_state
from rayopt.cluster.token import clusters_folder, drop_token, make_token, token_of, token_path
from rayopt.errors import InputError, WorkError

STARTED = Started("mine", "abc", "local", "10.0.0.1", ("10.0.0.1", "10.0.0.2"), 12.5, "/a/cluster.yaml")
HOLDER = """
import sys
from pathlib import Path
from rayopt.cluster.files import read_cluster
from rayopt.cluster.state import only_one
with only_one(read_cluster(Path(sys.argv[1])), "rayopt cluster up"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterFile:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "cluster.yaml"
    path.write_text("cluster_name: mine\nprovider: {type: local, head_ip: 10.0.0.1, worker_ips: [10.0.0.2]}\n")
    return read_cluster(path)


def test_a_token_is_made_once(cluster: ClusterFile, tmp_path: Path) -> None:
    token = make_token(cluster)
    assert len(token) == 64
    assert make_token(cluster) == token_of(cluster) == token
    assert token_path(cluster).stat().st_mode & 0o777 == 0o600
    assert clusters_folder().stat().st_mode & 0o777 == 0o700
    drop_token(cluster)
    assert make_token(cluster) != token


def test_without_a_token_the_cluster_is_not_up(cluster: ClusterFile) -> None:
    with pytest.raises(InputError, match="there is no token of the cluster 'mine' here; start it with"):
        token_of(cluster)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o666])
def test_a_token_that_others_could_read_is_refused(cluster: ClusterFile, mode: int) -> None:
    make_token(cluster)
    token_path(cluster).chmod(mode)
    for ask in (token_of, make_token):
        with pytest.raises(InputError, match="others can read this token; chmod 600"):
            ask(cluster)


@pytest.mark.parametrize("content", [b"", b"short", "é".encode() * 64, b"a" * 40 + b"\x00", b"\xff" * 40])
def test_what_is_no_token_is_refused(cluster: ClusterFile, content: bytes) -> None:
    make_token(cluster)
    token_path(cluster).write_bytes(content)
    with pytest.raises(InputError, match="holds no token"):
        token_of(cluster)


def test_a_folder_that_others_could_look_into_is_closed(cluster: ClusterFile) -> None:
    clusters_folder().chmod(0o755)
    make_token(cluster)
    assert clusters_folder().stat().st_mode & 0o777 == 0o700


def test_what_was_started_is_remembered(cluster: ClusterFile) -> None:
    assert read_state(cluster) is None
    write_state(cluster, STARTED)
    assert read_state(cluster) == STARTED
    assert state_path(cluster).stat().st_mode & 0o777 == 0o600
    drop_state(cluster)
    drop_state(cluster)
    assert read_state(cluster) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": "mine", "hosts": []}', '{"hosts": 7}'])
def test_a_state_that_is_not_ours_is_refused(cluster: ClusterFile, content: str) -> None:
    write_state(cluster, STARTED)
    state_path(cluster).write_text(content)
    with pytest.raises(InputError, match="is not what rayopt has written"):
        read_state(cluster)


def test_the_head_is_the_file_s_or_the_cloud_s(cluster: ClusterFile, tmp_path: Path) -> None:
    assert head_of(cluster) == "10.0.0.1"
    path = tmp_path / "cloud.yaml"
    path.write_text("cluster_name: cloudy\nprovider: {type: aws, region: eu-central-1}\n")
    cloud = read_cluster(path)
    with pytest.raises(InputError, match="the cluster 'cloudy' was not started from here"):
        head_of(cloud)
    write_state(cloud, Started("cloudy", "abc", "aws", "3.4.5.6", ("3.4.5.6",), 1.0, str(path)))
    assert head_of(cloud) == "3.4.5.6"


def test_one_command_at_a_time(cluster: ClusterFile) -> None:
    """Held by another process; free as soon as that is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(cluster.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(WorkError, match=rf"mine: rayopt cluster up \(process {holder.pid}\)"),
            only_one(cluster, "x"),
        ):
            pass
        holder.kill()
    with (
        only_one(cluster, "rayopt cluster down"),
        pytest.raises(WorkError, match="rayopt cluster down"),
        only_one(cluster, "x"),
    ):
        pass
    with only_one(cluster, "x"):
        pass
