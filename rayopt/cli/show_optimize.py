"""What an `optimize` job has found, on the terminal: a table of the models worth having, and what is recommended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from rayopt.cli.tables import show_table


def show(summary: Mapping[str, Any], folder: Path) -> None:
    """A short table of the baseline and the front, the sentence that says it all, and where the report is."""
    from rayopt.report.optimize import headline

    baseline = summary["baseline"]
    if baseline is not None:
        best = summary["recommended"]["id"] if summary["recommended"] else None
        rows = [baseline, *summary["front"]]
        columns = _columns(baseline, summary["metric"])
        show_table(columns, [_cells(row, baseline, summary, row["id"] == best) for row in rows])
    tried, failed = len(summary["candidates"]), len(summary["failed"])
    click.echo(f"{tried} candidates measured, {failed} failed; {summary['seconds']:.0f} s")
    click.echo(headline(summary))
    _choices(summary)
    if summary.get("caution"):
        click.echo(f"caution: {summary['caution']}")
    click.echo(f"report: {folder / 'report.html'}")


def compare(found: Mapping[str, Mapping[str, Any]]) -> None:
    """What several runs, by folder, recommend side by side."""
    rows = []
    for folder, one in found.items():
        row = one["recommended"] or one["baseline"]
        if row is not None:
            rows.append([folder, *_cells(row, one["baseline"], one, bool(one["recommended"]))])
    if rows:
        first = next(one["baseline"] for one in found.values() if one["baseline"])
        metrics = {one["metric"] for one in found.values() if one["baseline"]}
        show_table(["run", *_columns(first, " or ".join(sorted(metrics)))], rows)


def _choices(summary: Mapping[str, Any]) -> None:
    """The smallest, fastest and best balanced models, where they are not all the recommended one."""
    best = (summary["recommended"] or {}).get("id")
    for name, id in (summary.get("choices") or {}).items():
        if id is not None and id != best:
            click.echo(f"{name:>11} {id}: artifacts/{id}")
    for line in summary.get("stopped") or ():
        click.echo(f"    stopped: {line}")


def _columns(baseline: Mapping[str, Any], metric: str) -> list[str]:
    return ["model", "size", *(f"batch {size}" for size in baseline["latency_ms"]), metric, "steps"]


def _cells(row: Mapping[str, Any], baseline: Mapping[str, Any], summary: Mapping[str, Any], best: bool) -> list[str]:
    """One row; figures in brackets are shares of the baseline's."""
    from rayopt.report.formats import format_score, format_share, format_size

    is_baseline = row["id"] == baseline["id"]
    share = "" if is_baseline else f" ({format_share(row['size_bytes'] / baseline['size_bytes'])})"
    latencies = []
    for batch in baseline["latency_ms"]:
        if batch not in row["latency_ms"]:
            latencies.append("-")
            continue
        ratio = "" if is_baseline else f" ({format_share(row['latency_ratio'][batch])})"
        latencies.append(f"{row['latency_ms'][batch]:.3g} ms{ratio}")
    return [
        f"{row['id']}{' *' if best else ''}",
        f"{format_size(row['size_bytes'])}{share}",
        *latencies,
        format_score(row["accuracy"], summary["metric"]),
        " > ".join(row["steps"]) or "the model as given",
    ]
