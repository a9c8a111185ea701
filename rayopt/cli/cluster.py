"""`rayopt cluster`: clusters that a YAML file of Ray's launcher describes: started, looked at, ended."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from rayopt.cli.exits import exit_codes

FILE = click.argument("file", type=click.Path(path_type=Path), metavar="FILE.yaml")
JSON = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")


@click.group()
def cluster() -> None:
    """Start, look at and end a Ray cluster that a cluster file describes."""


@cluster.command("validate")
@FILE
@click.option("--probe", is_flag=True, help="Also reach every host that the file names, and compare its versions.")
def cluster_validate(file: Path, probe: bool) -> None:
    """Check a cluster file against Ray's own schema, each fault with its line; touches no network without --probe."""
    with exit_codes(False):
        from rayopt.cluster.files import read_cluster

        checked = read_cluster(file)
        click.echo(f"{file}: a valid cluster of provider {checked.provider!r}, named {checked.name!r}")
        if probe:
            from rayopt.cli.show_cluster import show_probe

            if not show_probe(checked):
                sys.exit(1)


@cluster.command("up")
@FILE
@JSON
def cluster_up(file: Path, as_json: bool) -> None:
    """Start the cluster, or what is missing of it; exit code 0 only when every node is there."""
    with exit_codes(as_json):
        from rayopt.cli.show_cluster import show_up
        from rayopt.cluster.files import read_cluster

        checked = read_cluster(file)
        if checked.provider == "local":
            from rayopt.cluster.starting import up
        else:
            from rayopt.cluster.cloud import up
        if not show_up(checked, up(checked, _say), as_json):
            sys.exit(1)


@cluster.command("status")
@FILE
@JSON
def cluster_status(file: Path, as_json: bool) -> None:
    """Show the nodes, what they have, what runs, and versions that differ; exit code 1 when nodes are missing."""
    with exit_codes(as_json):
        from rayopt.cli.show_cluster import show_status
        from rayopt.cluster.files import read_cluster

        if not show_status(read_cluster(file), as_json):
            sys.exit(1)


@cluster.command("down")
@FILE
@click.option("--yes", is_flag=True, help="Do not ask, also where jobs are running.")
def cluster_down(file: Path, yes: bool) -> None:
    """End what `up` has started on the cluster's hosts, and nothing else; asks first where jobs are running."""
    with exit_codes(False):
        from rayopt.cli.show_cluster import show_down
        from rayopt.cluster.files import read_cluster

        if not show_down(read_cluster(file), yes, _say):
            sys.exit(1)


@cluster.command("dashboard")
@FILE
@click.option("--port", type=click.IntRange(1, 65535), help="The port on 127.0.0.1.  [default: a free one]")
def cluster_dashboard(file: Path, port: int | None) -> None:
    """Open a way to the cluster's dashboard on 127.0.0.1, until Ctrl-C."""
    with exit_codes(False):
        from rayopt.cli.show_cluster import show_dashboard
        from rayopt.cluster.files import read_cluster

        show_dashboard(read_cluster(file), port)


@cluster.command("sync")
@FILE
@click.option("--check", is_flag=True, help="Only compare; exit code 1 where something differs.")
def cluster_sync(file: Path, check: bool) -> None:
    """Give every host the rayopt and the library versions that are here."""
    with exit_codes(False):
        from rayopt.cli.show_cluster import show_sync
        from rayopt.cluster.files import read_cluster

        if not show_sync(read_cluster(file), check, _say):
            sys.exit(1)


def _say(text: Any) -> None:
    click.echo(text, err=True)
