"""What a training has found, on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from rayopt.cli.tables import show_table


def show(summary: Mapping[str, Any], folder: Path) -> None:
    """The models side by side, the sentence that says it all, and where everything is."""
    from rayopt.report.training import headline, sheet

    found = sheet(summary)
    if len(found.models) > 1:
        show_table(["model", found.metric, "size"], [[one.name, one.score_text, one.size_text] for one in found.models])
    for name, value in found.facts.items():
        click.echo(f"{name}: {value}")
    click.echo(headline(summary))
    if summary.get("path"):
        click.echo(f"model: {folder / summary['path']}")
    click.echo(f"report: {folder / 'report.html'}")


def compare(found: Mapping[str, Mapping[str, Any]]) -> None:
    """The models of several runs side by side."""
    from rayopt.report.training import sheet

    rows = [
        [folder, one.name, f"{sheet(summary).metric} {one.score_text}"]
        for folder, summary in found.items()
        for one in sheet(summary).models
    ]
    show_table(["run", "model", "score"], rows)
