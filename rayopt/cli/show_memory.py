"""What a memory job has planned, on the terminal: what takes the memory, and the sentence that says how it fits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from rayopt.cli.tables import show_table
from rayopt.report.formats import format_seconds, format_size


def show(summary: Mapping[str, Any], folder: Path) -> None:
    """The bytes at the peak by kind, what was planned, and where the report is."""
    from rayopt.report.memory import headline, sheet

    found = sheet(summary)
    rows = [[kind, format_size(size)] for kind, size in found.at_peak.items() if size]
    if rows:
        show_table(["at the peak", "size"], rows)
    for one in found.warnings:
        click.echo(f"warning: {one}")
    click.echo(f"{len(found.rows)} ways fit; {format_seconds(summary['seconds'])}")
    click.echo(headline(summary))
    click.echo(f"report: {folder / 'report.html'}")
