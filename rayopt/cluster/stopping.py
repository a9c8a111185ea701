"""Ending what rayopt has started, and nothing else: processes are known by the cluster's mark."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rayopt.cluster.commands import token_place
from rayopt.cluster.dashboard import Dashboard, Running
from rayopt.cluster.files import ClusterFile
from rayopt.cluster.probe import Found, Trouble, ask, on_all, probe
from rayopt.cluster.state import Started, drop_state, only_one
from rayopt.cluster.tls import FILES, drop_authority, tls_place
from rayopt.cluster.token import drop_token, token_of
from rayopt.cluster.tunnel import open_tunnel
from rayopt.errors import RayoptError


@dataclass(frozen=True)
class Down:
    """How many processes were ended on each host, and which hosts could not be cleaned."""

    ended: dict[str, int]
    troubles: tuple[Trouble, ...]


@dataclass(frozen=True)
class Use:
    """What has not ended on a cluster; `unknown` says why that cannot be known of one that may be at work."""

    running: tuple[Running, ...] = ()
    unknown: str = ""


def use_of(cluster: ClusterFile, started: Started) -> Use:
    """What an end of the cluster would end; hosts that cannot be reached are none of it."""
    try:
        token = token_of(cluster)
        with open_tunnel(cluster) as url:
            return Use(tuple(Dashboard(url, token).running()))
    except RayoptError as error:
        found = probe(cluster, started.hosts, started.mark)
        lives = cluster.provider != "local" or any(one.facts.get("raylet") for one in found.values())
        return Use(unknown=str(error) if lives else "")


def down(cluster: ClusterFile, started: Started) -> Down:
    """Ends the cluster on every host that it was started on; forgets it once all are clean."""
    with only_one(cluster, "rayopt cluster down"):
        found = stop_hosts(cluster, started.hosts, started.mark)
        ended = {host: one.facts["ended"] for host, one in found.items() if not one.trouble}
        troubles = [one.trouble for one in found.values() if one.trouble]
        for host, one in found.items():
            if not one.trouble and one.facts["left"]:
                troubles.append(Trouble(host, f"{one.facts['left']} processes would not end", "look at them there"))
        if not troubles:
            drop_state(cluster)
            drop_token(cluster)
            drop_authority(cluster)
    return Down(ended, tuple(troubles))


def stop_hosts(cluster: ClusterFile, hosts: Iterable[str], mark: str) -> dict[str, Found]:
    """Ends what carries the mark on some hosts, and removes the token there."""
    remove = [token_place(cluster, mark), *(tls_place(cluster, mark, name) for name in FILES.values())]
    return on_all(cluster, hosts, lambda remote: ask(remote, "stop", mark=mark, remove=remove))
