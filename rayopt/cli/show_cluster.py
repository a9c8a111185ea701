"""What `rayopt cluster` says; each function gives whether all is as it should be."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

import click

from rayopt.cluster.dashboard import BYTES, Node, Running
from rayopt.cluster.environment import our_environment
from rayopt.cluster.files import ClusterFile
from rayopt.cluster.probe import probe
from rayopt.cluster.starting import Up
from rayopt.cluster.state import known_state, read_state
from rayopt.cluster.stopping import Use, down, use_of
from rayopt.cluster.token import token_of
from rayopt.cluster.tunnel import open_tunnel
from rayopt.cluster.watching import look
from rayopt.errors import WorkError, input_error

GIB = 1 << 30
LOOK_S = 5.0


def show_probe(cluster: ClusterFile) -> bool:
    """Every host with its Python, Ray and size, or why it cannot be used."""
    fine = True
    for host, found in probe(cluster, cluster.hosts).items():
        differing = found.differences(our_environment())
        if found.trouble:
            click.echo(str(found.trouble))
        elif differing:
            click.echo(f"{host}: has {', '.join(map(str, differing))}; run `rayopt cluster sync {cluster.path}`")
        else:
            facts = found.facts
            size = f"{facts['cpus']} CPUs, {facts['memory_bytes'] / GIB:.0f} GiB"
            click.echo(f"{host}: {facts['host']}, Python {facts['python']}, Ray {facts['versions']['ray']}, {size}")
        fine &= not (found.trouble or differing)
    return fine


def show_up(cluster: ClusterFile, done: Up, as_json: bool) -> bool:
    """How many of the nodes are there; the missing ones by name with the reason."""
    if as_json:
        click.echo(json.dumps({"name": cluster.name, **asdict(done)}, indent=2))
    for trouble in done.missing:
        click.echo(f"missing {trouble}", err=True)
    if not as_json:
        there = done.wanted_count - len(done.missing)
        click.echo(f"{cluster.name}: {there} of {done.wanted_count} nodes are there, after {done.seconds:.1f} s")
    return not done.missing


def show_status(cluster: ClusterFile, as_json: bool) -> bool:
    """Nodes, resources, what runs, and versions that differ."""
    status = look(cluster)
    if as_json:
        click.echo(json.dumps(asdict(status), indent=2))
        return not status.missing
    wanted = f" of {status.wanted_count}" if status.wanted_count else ""
    click.echo(f"{status.name}: {status.alive_count}{wanted} nodes are there")
    for node in status.nodes:
        click.echo(f"  {_node(node)}")
    for trouble in status.missing:
        click.echo(f"  missing {trouble}")
    for host, differences in status.differing.items():
        click.echo(f"  {host}: differs: {', '.join(map(str, differences))}")
    for name, amount in status.resources.items():
        click.echo(f"  {name}: {_amount(name, amount.taken)} of {_amount(name, amount.total)} taken")
    click.echo(f"{len(status.running)} running{_listed(status.running)}")
    return not status.missing


def show_down(cluster: ClusterFile, yes: bool, say: Callable[[str], None]) -> bool:
    """Asks where something runs, ends the cluster, and says what was ended."""
    started = read_state(cluster)
    if started is None:
        click.echo(f"{cluster.name}: was not started from here; there is nothing to end")
        return True
    if not yes:
        _ask_first(cluster, use_of(cluster, started), say)
    if cluster.provider == "local":
        done = down(cluster, started)
    else:
        from rayopt.cluster.cloud import cloud_down

        done = cloud_down(cluster)
    for host, count in done.ended.items():
        click.echo(f"{host}: {count} processes ended")
    for trouble in done.troubles:
        click.echo(f"not ended: {trouble}", err=True)
    return not done.troubles


def _ask_first(cluster: ClusterFile, use: Use, say: Callable[[str], None]) -> None:
    """Nothing that runs, or may run, is ended without a word."""
    if use.running:
        problem = "something runs on the cluster"
        say(f"{cluster.name}: {len(use.running)} running:{_listed(use.running)}")
    elif use.unknown:
        problem = f"Ray runs on the cluster, and what runs on it cannot be seen ({use.unknown})"
        say(f"{cluster.name}: {problem}")
    else:
        return
    if not sys.stdin.isatty():
        raise input_error(cluster.name, problem, "give --yes to end it all the same")
    click.confirm("End it all the same?", abort=True, err=True)


def show_dashboard(cluster: ClusterFile, port: int | None) -> None:
    """The address of the dashboard from here; stays until Ctrl-C."""
    known_state(cluster)
    token_of(cluster)
    with open_tunnel(cluster, port) as url:
        click.echo(f"{url}  (Ctrl-C closes it; the page asks for the token of {cluster.name}.token)")
        sys.stdout.flush()
        try:
            while _answers(url):
                time.sleep(LOOK_S)
        except KeyboardInterrupt:
            click.echo("closed", err=True)
            return
    raise WorkError(f"{cluster.name}: nothing answers at {url} any more: the connection or the cluster has ended")


def _answers(url: str) -> bool:
    """Whether somebody listens at the near end: ssh ends with its connection."""
    at = urlsplit(url)
    try:
        socket.create_connection((at.hostname, at.port or 80), timeout=LOOK_S).close()
    except OSError:
        return False
    return True


def show_sync(cluster: ClusterFile, check: bool, say: Callable[[str], None]) -> bool:
    """What each host had otherwise, and whether that is mended now."""
    from rayopt.cluster.sync import sync

    fine = True
    for result in sync(cluster, check, say):
        click.echo(str(result))
        fine &= result.same
    return fine


def _listed(running: Iterable[Running]) -> str:
    return "".join(f"\n  {one.id}: {one.status}: {one.entrypoint}" for one in running)


def _node(node: Node) -> str:
    role = "head" if node.head else "worker"
    if not node.alive:
        return f"{node.address}: {role}, dead: {node.reason or 'Ray gives no reason'}"
    return f"{node.address}: {role}, {', '.join(_resources(node.resources.items()))}"


def _resources(found: Iterable[tuple[str, Any]]) -> list[str]:
    return [f"{_amount(name, value)} {name}" for name, value in sorted(found) if not name.startswith("node:")]


def _amount(name: str, value: float) -> str:
    return f"{value / GIB:.1f} GiB" if name in BYTES else f"{value:g}"
