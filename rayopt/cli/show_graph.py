"""What a `graph` run has found, on the terminal: a table of the models, and the sentence that says it all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from rayopt.cli.tables import show_table
from rayopt.report.formats import format_seconds

SHOWN = 40


def show(summary: Mapping[str, Any], folder: Path) -> None:
    """The models that gained most, what became of the others, and where everything is."""
    from rayopt.report.graph import headline, sheet

    found = sheet(summary)
    rows = sorted(
        found.rows, key=lambda row: (row.verdict != "optimized", row.verdict == "unchanged", row.nodes_ratio or 0)
    )
    if rows:
        cells = [[row.name, row.verdict, row.nodes, row.size, row.latency, row.chain or row.reason] for row in rows]
        show_table(["model", "verdict", "nodes", "size", "latency", "chain or reason"], cells[:SHOWN])
        if len(rows) > SHOWN:
            click.echo(f"and {len(rows) - SHOWN} more in {folder / 'report.html'}")
    cached = f", {summary['cached_count']} from the cache" if summary.get("cached_count") else ""
    caught = f"; tools were caught {len(found.caught)} times" if found.caught else ""
    click.echo(f"{format_seconds(summary['seconds'])}{cached}{caught}")
    click.echo(headline(summary))
    click.echo(f"report: {folder / 'report.html'}")


def compare(found: Mapping[str, Mapping[str, Any]]) -> None:
    """What several runs made of their models side by side."""
    from rayopt.report.graph import headline

    show_table(["run", "result"], [[folder, headline(summary)] for folder, summary in found.items()])
