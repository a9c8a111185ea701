"""How a cluster is now: its nodes, what they have, what runs, which hosts are missing and which differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rayopt.cluster.dashboard import Dashboard, Node, Running, plain_name
from rayopt.cluster.environment import Difference, our_environment
from rayopt.cluster.files import ClusterFile
from rayopt.cluster.probe import Trouble, probe
from rayopt.cluster.state import known_state
from rayopt.cluster.token import token_of
from rayopt.cluster.tunnel import open_tunnel

GONE = "is up, but Ray does not run there"


@dataclass(frozen=True)
class Amount:
    """How much of a resource the living nodes have, and how much of it was taken some seconds ago."""

    total: float
    taken: float


@dataclass(frozen=True)
class Status:
    """A cluster at one moment; `wanted_count` is None where a cloud decides how many nodes there are."""

    name: str
    wanted_count: int | None
    nodes: tuple[Node, ...]
    resources: Mapping[str, Amount]
    running: tuple[Running, ...]
    missing: tuple[Trouble, ...]
    differing: Mapping[str, tuple[Difference, ...]]

    @property
    def alive_count(self) -> int:
        return sum(node.alive for node in self.nodes)


def look(cluster: ClusterFile) -> Status:
    """Asks the head for what it knows and every host for its versions; raises WorkError without a head."""
    started = known_state(cluster)
    token = token_of(cluster)
    with open_tunnel(cluster) as url:
        dashboard = Dashboard(url, token)
        nodes, taken, running = dashboard.nodes(), dashboard.taken(), dashboard.running()
    alive = {node.address for node in nodes if node.alive}
    missing, differing = [], {}
    for host, found in probe(cluster, cluster.hosts, started.mark).items():
        known = not alive.isdisjoint({host, *found.facts.get("addresses", ())})
        if not known or (found.facts and not found.facts["raylet"]):
            missing.append(found.trouble or Trouble(host, GONE, f"run `rayopt cluster up {cluster.path}`"))
        if differences := found.differences(our_environment()):
            differing[host] = differences
    wanted = len(cluster.hosts) or None
    return Status(cluster.name, wanted, tuple(nodes), _amounts(nodes, taken), tuple(running), tuple(missing), differing)


def _amounts(nodes: Iterable[Node], taken: Mapping[str, float]) -> dict[str, Amount]:
    totals: dict[str, float] = {}
    for node in nodes:
        for name, amount in node.resources.items() if node.alive else ():
            if not name.startswith("node:"):
                totals[name] = totals.get(name, 0) + amount
    return {name: Amount(totals[name], taken.get(plain_name(name), 0.0)) for name in sorted(totals)}
