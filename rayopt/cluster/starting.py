"""Starting Ray on hosts of one's own, by ssh from the same file that Ray's launcher reads: in parallel, and known by
a mark, so that what was started can be told from everything else. Ray's launcher starts workers one by one and begins
with a `ray stop`, which on a shared machine ends everybody's Ray.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from rayopt.cluster.commands import last_words, setting_up, starting, token_place
from rayopt.cluster.dashboard import Dashboard, Node
from rayopt.cluster.environment import our_environment
from rayopt.cluster.files import ClusterFile
from rayopt.cluster.mounts import copy_mounts
from rayopt.cluster.probe import Found, Trouble, ask, is_head, on_all, probe
from rayopt.cluster.ssh import Answer, Remote
from rayopt.cluster.state import Started, new_mark, only_one, read_state, write_state
from rayopt.cluster.stopping import stop_hosts
from rayopt.cluster.tls import authority, host_files, tls_place
from rayopt.cluster.token import make_token
from rayopt.cluster.tunnel import open_tunnel
from rayopt.errors import WorkError, input_error

REACH_S = 30.0
SETUP_S = 1800.0
START_S = 180.0
JOIN_S = 60.0
POLL_S = 0.2
MIN_FREE_BYTES = 1 << 28

Say = Callable[[str], None]


@dataclass(frozen=True)
class Up:
    """What came of `up`: the nodes that are there, and why others are not."""

    nodes: tuple[Node, ...]
    missing: tuple[Trouble, ...]
    wanted_count: int
    seconds: float


def up(cluster: ClusterFile, say: Say, tls: bool = False) -> Up:
    """Starts Ray on every host of the file on which it does not run yet; raises WorkError without a head."""
    began = time.monotonic()
    with only_one(cluster, "rayopt cluster up"):
        before = read_state(cluster)
        _refuse_another(cluster, before, tls)
        mark = before.mark if before else new_mark()
        ready, missing = _prepared(cluster, mark, say)
        if cluster.hosts[0] not in ready:
            raise WorkError("no cluster without its head: " + "; ".join(map(str, missing.values())))
        token = make_token(cluster)
        started = _started(cluster, mark, before, tls)
        write_state(cluster, started)
        alive = _alive_already(cluster, token, ready) if ready[cluster.hosts[0]].facts["marked"] else {}
        _start_all(cluster, started, token, ready, alive, missing, say)
        nodes = _joined(cluster, token, ready, missing)
    return Up(tuple(nodes), tuple(missing.values()), len(cluster.hosts), time.monotonic() - began)


def _refuse_another(cluster: ClusterFile, before: Started | None, tls: bool) -> None:
    """One name is one cluster: two files may not share it while one of them is up, and it has TLS or it has not."""
    if before is not None and before.head != cluster.hosts[0]:
        problem = f"a cluster {before.name!r} with the head {before.head} is up, started from {before.file}"
        raise input_error(str(cluster.path), problem, "give this one another `cluster_name:`, or end that one first")
    if before is not None and tls and not before.tls:
        raise input_error(
            str(cluster.path), "the cluster is up without TLS", "end it first, with `rayopt cluster down`"
        )


def _started(cluster: ClusterFile, mark: str, before: Started | None, tls: bool) -> Started:
    """Hosts that an earlier file named are remembered: `down` ends what runs there."""
    hosts = dict.fromkeys((*cluster.hosts, *(before.hosts if before else ())))
    since = before.since if before else time.time()
    head = cluster.hosts[0]
    tls = tls or (before is not None and before.tls)
    file = str(cluster.path.resolve())
    return Started(cluster.name, mark, cluster.provider, head, tuple(hosts), since, file, tls)


def _prepared(cluster: ClusterFile, mark: str, say: Say) -> tuple[dict[str, Found], dict[str, Trouble]]:
    """The hosts on which Ray may be started, and why it may not on the others."""
    say(f"{cluster.name}: looking at {len(cluster.hosts)} hosts")
    troubles = {host: one for host, one in on_all(cluster, cluster.hosts, _set_up).items() if one}
    found = probe(cluster, [host for host in cluster.hosts if host not in troubles], mark)
    _refuse_others(cluster, found)
    ready: dict[str, Found] = {}
    for host, one in found.items():
        if one.trouble:
            troubles[host] = one.trouble
        elif differing := one.differences(our_environment()):
            told = "has " + ", ".join(map(str, differing))
            troubles[host] = Trouble(host, told, f"run `rayopt cluster sync {cluster.path}`")
        elif one.facts["free_bytes"] < MIN_FREE_BYTES:
            told = f"has {one.facts['free_bytes'] >> 20} MiB free in /tmp, where Ray keeps its sessions"
            troubles[host] = Trouble(host, told, f"free {MIN_FREE_BYTES >> 20} MiB")
        else:
            ready[host] = one
    return ready, troubles


def _refuse_others(cluster: ClusterFile, found: Mapping[str, Found]) -> None:
    """What another client has started under this name is not ours to start anew, and its ports are taken."""
    theirs = [host for host, one in found.items() if one.facts.get("others")]
    if theirs:
        problem = f"a cluster {cluster.name!r} that was not started from here runs on {', '.join(theirs)}"
        remedy = "give this one another `cluster_name:`, or end that one from where it was started"
        raise input_error(str(cluster.path), problem, remedy)


def _set_up(remote: Remote) -> Trouble | None:
    if trouble := _trouble(remote.host, remote.run("true", timeout_s=REACH_S), "cannot be used"):
        return trouble
    if fault := copy_mounts(remote):
        return Trouble(remote.host, *fault)
    command = setting_up(remote.cluster, head=is_head(remote.cluster, remote.host))
    answer = remote.run(command or "true", timeout_s=SETUP_S)
    return _trouble(remote.host, answer, "the setup commands failed")


def _alive_already(cluster: ClusterFile, token: str, ready: Mapping[str, Found]) -> Mapping[str, Node]:
    """The nodes of a cluster that runs; nothing where only leftovers run, as workers without a head are.

    Raises WorkError where the head runs and its dashboard does not say what: jobs may run there.
    """
    try:
        with open_tunnel(cluster) as url:
            return {node.address: node for node in Dashboard(url, token).nodes() if node.alive}
    except WorkError as error:
        head = ready.get(cluster.hosts[0])
        if head is None or not head.facts["raylet"]:
            return {}
        problem = f"{cluster.name}: Ray runs on {head.host}, but {error}"
        remedy = f"`rayopt cluster down {cluster.path}` ends it and what runs on it; then start it again"
        raise WorkError(f"{problem}; {remedy}") from error


def _start_all(
    cluster: ClusterFile,
    started: Started,
    token: str,
    ready: Mapping[str, Found],
    alive: Mapping[str, Node],
    missing: dict[str, Trouble],
    say: Say,
) -> None:
    """Starts the head, then all workers at once; what a broken start has left behind is ended first."""
    idle = [host for host, found in ready.items() if not (found.facts["raylet"] and _is_there(found, alive))]
    stale = [host for host in idle if ready[host].facts["marked"]]
    if stale:
        say(f"{cluster.name}: ending what is left of an earlier start on {', '.join(stale)}")
        stop_hosts(cluster, stale, started.mark)
    secrets = {host: {token_place(cluster, started.mark): token} for host in idle}
    if started.tls:
        for host in idle:
            files = host_files(authority(cluster), host, ready[host].facts["addresses"])
            secrets[host] |= {tls_place(cluster, started.mark, name): content for name, content in files.items()}
    kept = on_all(cluster, idle, lambda remote: ask(remote, "keep", files=secrets[remote.host]))
    missing.update({host: one.trouble for host, one in kept.items() if one.trouble})

    def start(remote: Remote) -> Trouble | None:
        say(f"{cluster.name}: starting Ray on {remote.host}")
        command = starting(cluster, started.mark, head=is_head(cluster, remote.host), tls=started.tls)
        return _trouble(remote.host, remote.run(command, timeout_s=START_S), "Ray did not start")

    first = cluster.hosts[0]
    for group in ([first], [host for host in idle if host != first]):
        waiting = [host for host in group if host in idle and host not in missing]
        missing.update({host: one for host, one in on_all(cluster, waiting, start).items() if one})
        if first in missing:
            raise WorkError(f"no cluster without its head: {missing[first]}")


def _joined(cluster: ClusterFile, token: str, ready: Mapping[str, Found], missing: dict[str, Trouble]) -> list[Node]:
    """The living nodes, once all that were started are among them; those that do not come are missing."""
    deadline = time.monotonic() + JOIN_S
    with open_tunnel(cluster) as url:
        dashboard = Dashboard(url, token)
        while True:
            late = time.monotonic() > deadline
            try:
                nodes = [node for node in dashboard.nodes() if node.alive]
            except WorkError:
                if late:
                    raise
                nodes = []
            alive = {node.address: node for node in nodes}
            waiting = [host for host in ready if host not in missing and not _is_there(ready[host], alive)]
            if nodes and (late or not waiting):
                break
            time.sleep(POLL_S)
    remedy = "see /tmp/ray/session_latest/logs there, and whether it reaches the head's ports"
    missing.update({host: Trouble(host, f"did not join within {JOIN_S:g} s", remedy) for host in waiting})
    return nodes


def _is_there(found: Found, alive: Iterable[str]) -> bool:
    """Whether a host is among the addresses of living nodes."""
    return not {found.host, *found.facts["addresses"]}.isdisjoint(alive)


def _trouble(host: str, answer: Answer, problem: str) -> Trouble | None:
    if answer.trouble:
        return Trouble(host, answer.trouble, answer.remedy)
    if answer.code:
        said = last_words({"err": answer.err, "out": answer.out})
        return Trouble(host, f"{problem} (exit code {answer.code}): {said}")
    return None
