"""What `up`, `down` and `sync` do to a cluster that runs and does not say what it is at: nothing without a word."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rayopt.cli.commands import cli
from rayopt.cluster import cloud, starting, stopping, sync
from rayopt.cluster.dashboard import Node
from rayopt.cluster.files import ClusterFile, read_cluster
from rayopt.cluster.probe import Found
from rayopt.cluster.state import Started, write_state
from rayopt.cluster.token import make_token
from rayopt.errors import WorkError

HEAD, WORKER = "10.0.0.1", "10.0.0.2"
IDLE: dict[str, Any] = {"host": "h", "addresses": [], "free_bytes": 1 << 40, "marked": 0, "raylet": False, "others": 0}
BUSY = {**IDLE, "marked": 5, "raylet": True}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterFile:
    """One that is up, whose dashboard does not answer."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "cluster.yaml"
    path.write_text(f"cluster_name: mine\nprovider: {{type: local, head_ip: {HEAD}, worker_ips: [{WORKER}]}}\n")
    made = read_cluster(path)
    write_state(made, Started("mine", "abc", "local", HEAD, (HEAD, WORKER), 12.5, str(path)))
    make_token(made)

    @contextlib.contextmanager
    def no_tunnel(cluster: ClusterFile) -> Iterator[str]:
        raise WorkError("the dashboard of the cluster does not answer")
        yield ""

    for module in (starting, stopping):
        monkeypatch.setattr(module, "open_tunnel", no_tunnel)
    return made


def hosts(monkeypatch: pytest.MonkeyPatch, head: dict[str, Any], worker: dict[str, Any]) -> list[str]:
    """Lets the hosts say that of themselves, without differences; gives which are ended and which started, in turn."""
    told = {HEAD: Found(HEAD, head), WORKER: Found(WORKER, worker)}
    done: list[str] = []
    for module in (starting, stopping, sync):
        monkeypatch.setattr(module, "probe", lambda cluster, hosts, mark="": {one: told[one] for one in hosts})
    monkeypatch.setattr(Found, "differences", lambda found, ours: ())
    monkeypatch.setattr(starting, "_set_up", lambda remote: None)
    monkeypatch.setattr(starting, "stop_hosts", lambda cluster, stale, mark: done.extend(f"end {one}" for one in stale))
    monkeypatch.setattr(starting, "ask", lambda remote, does, **asked: Found(remote.host))
    monkeypatch.setattr(starting.Remote, "run", lambda remote, *_, **__: done.append(f"start {remote.host}") or OK)
    monkeypatch.setattr(starting, "_joined", lambda *_: [])
    return done


OK = starting.Answer(0, "", "")


@pytest.mark.parametrize(("head", "worker"), [(BUSY, BUSY), (BUSY, IDLE)])
def test_up_does_not_end_what_it_cannot_ask(
    cluster: ClusterFile, monkeypatch: pytest.MonkeyPatch, head: dict[str, Any], worker: dict[str, Any]
) -> None:
    done = hosts(monkeypatch, head, worker)
    with pytest.raises(WorkError, match=r"Ray runs on .*10.0.0.*does not answer; `rayopt cluster down .*` ends it"):
        starting.up(cluster, lambda text: None)
    assert done == []


def test_up_ends_what_an_earlier_start_has_left(cluster: ClusterFile, monkeypatch: pytest.MonkeyPatch) -> None:
    done = hosts(monkeypatch, {**IDLE, "marked": 2}, IDLE)
    starting.up(cluster, lambda text: None)
    assert done == [f"end {HEAD}", f"start {HEAD}", f"start {WORKER}"]


def test_workers_without_a_head_are_left_of_an_earlier_start(
    cluster: ClusterFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = hosts(monkeypatch, {**BUSY, "raylet": False}, BUSY)
    starting.up(cluster, lambda text: None)
    assert sorted(done) == sorted(f"{what} {host}" for what in ("end", "start") for host in (HEAD, WORKER))


def test_up_leaves_a_cluster_of_that_name_alone_that_another_client_has_started(
    cluster: ClusterFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = hosts(monkeypatch, IDLE, {**IDLE, "others": 4})
    with pytest.raises(Exception, match=f"cluster 'mine' that was not started from here runs on {WORKER}; give this"):
        starting.up(cluster, lambda text: None)
    assert done == []


def test_down_asks_where_it_cannot_see_what_runs(cluster: ClusterFile, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts(monkeypatch, IDLE, BUSY)
    done = CliRunner().invoke(cli, ["cluster", "down", str(cluster.path)])
    assert done.exit_code == 2
    assert "Ray runs on the cluster, and what runs on it cannot be seen (the dashboard" in done.stderr
    assert "give --yes" in done.stderr


def test_down_does_not_ask_about_what_has_ended(cluster: ClusterFile, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts(monkeypatch, IDLE, IDLE)
    started = Started("mine", "abc", "local", HEAD, (HEAD, WORKER), 12.5, str(cluster.path))
    assert stopping.use_of(cluster, started) == stopping.Use()


def test_sync_leaves_the_files_of_a_running_cluster_alone(
    cluster: ClusterFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host of it on which Ray does not run is mended: `up` may have refused it for what it has."""
    hosts(monkeypatch, BUSY, {**IDLE, "executable": "python3"})
    differs = sync.Difference(*sync.OURS, "a", "b")
    monkeypatch.setattr(Found, "differences", lambda found, ours: (differs,))
    monkeypatch.setattr(sync.Remote, "run", lambda remote, *_, **__: OK)
    monkeypatch.setattr(sync, "make_wheel", lambda: ("rayopt.whl", b""))
    found = {one.host: one.trouble for one in sync.sync(cluster, False, lambda text: None)}
    assert found[HEAD] == (
        f"Ray runs there, by the files that would be replaced: first `rayopt cluster down {cluster.path}`"
    )
    assert found[WORKER] == ""


class Answers:
    """A dashboard that says one thing after another, the last for ever, on a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *said: list[Node] | WorkError) -> None:
        self.said, self.now = list(said), 0.0
        monkeypatch.setattr(cloud, "open_tunnel", lambda cluster: contextlib.nullcontext("url"))
        monkeypatch.setattr(cloud, "Dashboard", lambda url, token: self)
        monkeypatch.setattr(cloud.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(cloud.time, "sleep", lambda seconds: setattr(self, "now", self.now + seconds))

    def nodes(self) -> list[Node]:
        self.now += 10
        one = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        if isinstance(one, WorkError):
            raise one
        return one


SILENT = WorkError("the dashboard of the cluster does not answer")
FIRST, SECOND = Node(HEAD, True, True, {}), Node(WORKER, True, False, {})


def test_a_cloud_s_dashboard_that_is_not_there_yet_is_waited_for(
    cluster: ClusterFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    Answers(monkeypatch, SILENT, SILENT, [FIRST], SILENT, [FIRST, SECOND])
    assert cloud._wait(cluster, "token", 2) == [FIRST, SECOND]
    Answers(monkeypatch, [FIRST], SILENT)
    assert cloud._wait(cluster, "token", 2) == [FIRST]
    silent = Answers(monkeypatch, SILENT)
    with pytest.raises(WorkError, match="does not answer"):
        cloud._wait(cluster, "token", 2)
    assert silent.now >= cloud.JOIN_S
