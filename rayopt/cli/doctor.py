"""`rayopt doctor`: versions, what of Ray listens and who may reach it, tokens that others could read."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rayopt.cli.exits import exit_codes


@click.command()
@click.option(
    "--cluster", "file", type=click.Path(path_type=Path), metavar="FILE.yaml", help="Look at a cluster's hosts too."
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(file: Path | None, as_json: bool) -> None:
    """Report versions, open ports and token files; exit code 1 where something should be mended."""
    with exit_codes(as_json):
        from rayopt.cli.show_doctor import show_doctor
        from rayopt.cluster.files import read_cluster

        if not show_doctor(read_cluster(file) if file else None, as_json):
            sys.exit(1)
