"""What a search has found, on the terminal: the best candidates as a table, and the sentence that says it all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from rayopt.cli.tables import show_table
from rayopt.report.formats import format_count, format_seconds

SHOWN = 10


def show(summary: Mapping[str, Any], folder: Path) -> None:
    """The best candidates, what became of the others, and where everything is."""
    from rayopt.report.search import headline, sheet

    found = sheet(summary)
    rows = [[str(row.rank), row.score_text, f"{row.seconds:.3g} s", row.params_text] for row in found.rows if row.rank]
    if rows:
        show_table(["rank", found.metric, "cost", "parameters"], rows[:SHOWN])
        if len(rows) > SHOWN:
            table = "trials.csv" if summary.get("searched") else "cv_results.csv"
            click.echo(f"and {len(rows) - SHOWN} more in {folder / table}")
    failed = sum(row.score is None for row in found.rows)
    cells = summary.get("cells") or {}
    cached = f", {cells['cached']} of {sum(cells.values())} evaluations from the cache" if cells.get("cached") else ""
    tried = format_count(len(found.rows), "candidate")
    click.echo(f"{tried}, {failed} without a score{cached}; {format_seconds(summary['seconds'])}")
    if summary.get("evaluated"):
        click.echo(f"evaluations: {summary['evaluated']}")
    broken = sum(row.rank is None and row.score is not None for row in found.rows)
    if broken:
        click.echo(f"{broken} of them outside of the constraints")
    if summary.get("stopped"):
        click.echo(f"stopped: {summary['stopped']}")
    click.echo(headline(summary))
    click.echo(f"report: {folder / 'report.html'}")


def compare(found: Mapping[str, Mapping[str, Any]]) -> None:
    """The best of several searches side by side."""
    from rayopt.report.search import sheet

    rows = []
    for folder, summary in found.items():
        best = sheet(summary).best
        rows.append(
            [folder, f"{sheet(summary).metric} {best.score_text}" if best else "-", best.params_text if best else "-"]
        )
    show_table(["run", "best score", "parameters"], rows)
