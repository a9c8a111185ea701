"""What `rayopt doctor` finds and says."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from rayopt.cluster import on_host
from rayopt.cluster.environment import our_environment
from rayopt.cluster.files import ClusterFile
from rayopt.cluster.ports import Port, firewall_lines, ports_of
from rayopt.cluster.probe import ask, on_all, probe
from rayopt.cluster.state import read_state
from rayopt.cluster.token import clusters_folder
from rayopt.onray.token import REMEDY
from rayopt.runs.private import lies_open


@dataclass
class Findings:
    """What is there, and what should be mended."""

    versions: dict[str, str] = field(default_factory=dict)
    listening: dict[str, list[Port]] = field(default_factory=dict)
    firewall: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def show_doctor(cluster: ClusterFile | None, as_json: bool) -> bool:
    """Gives whether nothing has to be mended."""
    found = findings(cluster)
    if as_json:
        click.echo(json.dumps(_plain(found), indent=2))
        return not found.faults
    for name, version in found.versions.items():
        click.echo(f"{name:<24} {version}")
    for host, ports in found.listening.items():
        click.echo(f"\n{host}: " + ("what of Ray listens" if ports else "nothing of Ray listens"))
        for port in ports:
            who = "others reach it" if port.open else "this host alone"
            click.echo(f"  {port.port:>5}  {port.address:<24} {port.name:<22} {who}")
    if found.firewall:
        click.echo(
            "\nOf what others reach, a Ray that rayopt started asks for its token, but for the metrics; any other Ray"
        )
        click.echo(
            "may let everybody in. To close it to all but the cluster, on each host:\n"
            + "\n".join(f"  {line}" for line in found.firewall)
        )
    for fault in found.faults:
        click.echo(f"fault: {fault}")
    click.echo("" if found.faults else "\nnothing to mend")
    return not found.faults


def findings(cluster: ClusterFile | None) -> Findings:
    """Looks at this machine, and at a cluster's hosts where one is given."""
    ours = our_environment()
    found = Findings({"Python": ours.python, **ours.versions, "rayopt's files": ours.sources})
    if sys.platform == "linux":
        found.listening["here"] = _of_ray(ports_of(on_host.listening("")["ports"]))
    _look_at_tokens(found)
    if cluster is not None:
        _look_at_hosts(cluster, found)
    _look_at_dashboards(cluster, found)
    opened = {port.port for ports in found.listening.values() for port in ports if port.open}
    if opened:
        hosts = cluster.hosts if cluster and cluster.hosts else ("THE HOSTS",)
        found.firewall = firewall_lines(hosts, opened, cluster.worker_ports if cluster else None)
    return found


def _of_ray(ports: list[Port]) -> list[Port]:
    return [port for port in ports if port.of_ray]


def _look_at_tokens(found: Findings) -> None:
    rays = Path.home() / ".ray" / "auth_token"
    for path in (rays, *sorted(clusters_folder().glob("*.token"))):
        if path.is_file() and path.stat().st_mode & 0o077:
            remedy = REMEDY if path == rays and lies_open(path) else f"chmod 600 {path}"
            found.faults.append(f"{path} is open to others (mode {path.stat().st_mode & 0o777:o}): {remedy}")


def _look_at_hosts(cluster: ClusterFile, found: Findings) -> None:
    started = read_state(cluster)
    hosts = cluster.hosts or (started.hosts if started else ())
    mark = started.mark if started else ""
    for host, one in probe(cluster, hosts, mark).items():
        for path, mode in one.facts.get("too_open", {}).items():
            found.faults.append(f"{host}: {path} is open to others (mode {mode:o}): end the cluster, start it anew")
        if one.trouble:
            found.faults.append(str(one.trouble))
        elif differing := one.differences(our_environment()):
            found.faults.append(f"{host}: has {', '.join(map(str, differing))}")
    for host, told in on_all(cluster, hosts, lambda remote: ask(remote, "listening", mark=mark)).items():
        if not told.trouble:
            found.listening[host] = _of_ray(ports_of(told.facts["ports"]))


def _look_at_dashboards(cluster: ClusterFile | None, found: Findings) -> None:
    """Whoever reaches a dashboard may run programs there, unless it asks for a token."""
    for host, ports in found.listening.items():
        for port in ports:
            if cluster is not None and port.port == cluster.dashboard_port and port.open:
                place = f"{host}: the dashboard listens on {port.address}"
                found.faults.append(f"{place}: start Ray with --dashboard-host=127.0.0.1")
            if port.lets_in:
                place = f"{host}: the dashboard at port {port.port} lets everybody in who reaches it"
                found.faults.append(f"{place}: start that Ray with RAY_AUTH_MODE=token")


def _plain(found: Findings) -> dict[str, Any]:
    listening = {
        host: [{"port": one.port, "address": one.address, "name": one.name, "open": one.open} for one in ports]
        for host, ports in found.listening.items()
    }
    told = {"versions": found.versions, "listening": listening, "firewall": found.firewall, "faults": found.faults}
    return told
