"""Clusters in a cloud: Ray's own launcher starts and ends them, as a child process; here it is only watched."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from rayopt.cluster.dashboard import Dashboard, Node
from rayopt.cluster.files import ClusterFile
from rayopt.cluster.probe import Trouble
from rayopt.cluster.starting import POLL_S, Up
from rayopt.cluster.state import Started, drop_state, new_mark, only_one, read_state, write_state
from rayopt.cluster.stopping import Down
from rayopt.cluster.token import drop_token, make_token
from rayopt.cluster.tunnel import open_tunnel
from rayopt.errors import WorkError

RAY = (sys.executable, "-m", "ray.scripts.scripts")
JOIN_S = 900.0  # machines that are bought take minutes


def cloud_up(cluster: ClusterFile, say: Callable[[str], None]) -> Up:
    """Runs `ray up`, and waits for the head and the least workers that the file asks for."""
    began = time.monotonic()
    with only_one(cluster, "rayopt cluster up"):
        token = make_token(cluster)
        before = read_state(cluster)
        mark = before.mark if before else new_mark()
        since = before.since if before else time.time()
        file = str(cluster.path.resolve())
        if before is None:  # the head of one that is up stays known, should this break off
            write_state(cluster, Started(cluster.name, mark, cluster.provider, "", (), since, file))
        _ray(cluster, "up", "--yes", "--no-config-cache")
        head = _ray(cluster, "get-head-ip", quiet=True).split()[-1]
        write_state(cluster, Started(cluster.name, mark, cluster.provider, head, (head,), since, file))
        wanted = 1 + least_workers(cluster)
        say(f"{cluster.name}: the head is {head}; waiting for {wanted} nodes")
        nodes = _wait(cluster, token, wanted)
    missing = wanted - len(nodes)
    trouble = Trouble(f"{missing} workers", f"did not join within {JOIN_S:g} s", f"see `ray monitor {cluster.path}`")
    return Up(tuple(nodes), (trouble,) if missing > 0 else (), wanted, time.monotonic() - began)


def cloud_down(cluster: ClusterFile) -> Down:
    """Runs `ray down`, which ends the machines that carry the cluster's name as a tag."""
    with only_one(cluster, "rayopt cluster down"):
        _ray(cluster, "down", "--yes")
        drop_state(cluster)
        drop_token(cluster)
    return Down({}, ())


def least_workers(cluster: ClusterFile) -> int:
    """How many workers the file wants from the beginning."""
    types = cluster.raw.get("available_node_types") or {}
    head = cluster.raw.get("head_node_type")
    return sum(int(one.get("min_workers") or 0) for name, one in types.items() if name != head)


def _ray(cluster: ClusterFile, command: str, *options: str, quiet: bool = False) -> str:
    """One command of Ray's launcher; what it says is shown, unless it is the answer. Raises WorkError."""
    argv = [*RAY, command, *options, str(cluster.path)]
    done = subprocess.run(argv, stdout=subprocess.PIPE if quiet else sys.stderr.fileno(), text=True, check=False)
    if done.returncode:
        raise WorkError(f"{cluster.name}: `ray {command}` ended with exit code {done.returncode}; see above")
    return done.stdout or ""


def _wait(cluster: ClusterFile, token: str, wanted: int) -> list[Node]:
    """The living nodes, once there are as many; fewer, or WorkError where none was ever told of, after JOIN_S."""
    deadline = time.monotonic() + JOIN_S
    nodes: list[Node] = []
    trouble: WorkError | None = None
    with open_tunnel(cluster) as url:
        dashboard = Dashboard(url, token)
        while len(nodes) < wanted and time.monotonic() < deadline:
            try:
                nodes = [node for node in dashboard.nodes() if node.alive]
            except WorkError as error:  # it does not serve yet, or was slow for once
                trouble = error
            time.sleep(POLL_S)
    if trouble is not None and not nodes:
        raise trouble
    return nodes
