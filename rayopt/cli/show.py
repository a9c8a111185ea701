"""Results on stdout: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from rayopt.certificates import Finding

WIDE = 120  # from this many columns on, a table has a column for the steps ...
COMPARED = ("baseline", "recommended", "best_params", "best_score", "best_std")
LEAST_STEPS = 24  # ... if this many are left for it


def show_summary(summary: Mapping[str, Any], folder: Path, as_json: bool) -> None:
    """A short table of the baseline and the front, the sentence that says it all, and where the report is."""
    if as_json:
        _json(summary)
        return
    from rayopt.report.rows import headline

    if summary["kind"] == "search":
        from rayopt.cli.show_search import show_search

        show_search(summary, folder)
        return
    baseline = summary["baseline"]
    if baseline is not None:
        best = summary["recommended"]["id"] if summary["recommended"] else None
        rows = [baseline, *summary["front"]]
        columns = _columns(baseline, summary["metric"])
        _table(columns, [_cells(row, baseline, summary, row["id"] == best) for row in rows])
    tried, failed = len(summary["candidates"]), len(summary["failed"])
    click.echo(f"{tried} candidates measured, {failed} failed; {summary['seconds']:.0f} s")
    click.echo(headline(summary))
    _choices(summary)
    if summary.get("caution"):
        click.echo(f"caution: {summary['caution']}")
    click.echo(f"report: {folder / 'report.html'}")


def _choices(summary: Mapping[str, Any]) -> None:
    """The smallest, fastest and best balanced models, where they are not all the recommended one."""
    best = (summary["recommended"] or {}).get("id")
    for name, id in (summary.get("choices") or {}).items():
        if id is not None and id != best:
            click.echo(f"{name:>11} {id}: artifacts/{id}")
    for line in summary.get("stopped") or ():
        click.echo(f"    stopped: {line}")


def show_methods(as_json: bool) -> None:
    """Every method with what it takes and gives, and its parameters."""
    from rayopt import methods, plugins

    found = {name: methods.find(name, name) for name in plugins.names("rayopt.methods")}
    if as_json:
        _json({name: _method(method) for name, method in found.items()})
        return
    for name, method in found.items():
        click.echo(f"{name}  ({method.accepts} -> {method.gives})\n    {methods.summary_of(method)}")
        for parameter, told in _method(method)["parameters"].items():
            more = f"  {told['description']}" if told["description"] else ""
            click.echo(f"    {parameter}: {told['type']} = {told['default']!r}{more}")


def show_findings(findings: Sequence[Finding], as_json: bool) -> None:
    """What `verify` found, a line a model."""
    if as_json:
        _json([{"id": one.id, "problem": one.problem or None, "max_error": one.max_error} for one in findings])
        return
    for one in findings:
        click.echo(f"{one.id}: {one.problem or f'as measured (outputs within {one.max_error:.2g})'}")


def show_runs(folder: Path, as_json: bool) -> None:
    """The runs below a folder; raises InputError where there is no such folder."""
    if not folder.is_dir():
        from rayopt.errors import input_error

        raise input_error(str(folder), "is no folder", "give the folder that run folders lie in")
    summaries = _summaries(sorted(folder.glob("*/summary.json"), key=lambda path: -path.stat().st_mtime))
    if as_json:
        _json([{"folder": str(path), "name": one["name"], "status": one["status"]} for path, one in summaries])
        return
    from rayopt.report.rows import headline

    for path, one in summaries:
        click.echo(f"{path}  {one['status']}  {headline(one)}")
    if not summaries:
        click.echo(f"no runs below {folder}")


def show_comparison(folders: Sequence[Path], as_json: bool) -> None:
    """What several runs recommend, side by side."""
    from rayopt.runs.folder import RunFolder

    found = {str(folder): RunFolder(folder).read_summary() for folder in folders}
    if as_json:
        _json({folder: {name: one[name] for name in COMPARED if name in one} for folder, one in found.items()})
        return
    searches = {folder: found.pop(folder) for folder, one in dict(found).items() if one["kind"] == "search"}
    if searches:
        from rayopt.cli.show_search import show_searches

        show_searches(searches)
    rows = []
    for folder, one in found.items():
        row = one["recommended"] or one["baseline"]
        if row is not None:
            rows.append([folder, *_cells(row, one["baseline"], one, bool(one["recommended"]))])
    if rows:
        first = next(one["baseline"] for one in found.values() if one["baseline"])
        metrics = {one["metric"] for one in found.values() if one["baseline"]}
        _table(["run", *_columns(first, " or ".join(sorted(metrics)))], rows)


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


def _method(method: Any) -> dict[str, Any]:
    schema = method.Params.model_json_schema(mode="validation")
    parameters = {}
    for name, field in method.Params.model_fields.items():
        told = schema["properties"][name]
        kind = " | ".join(map(str, told["enum"])) if "enum" in told else told.get("type", "any")
        default = field.get_default(call_default_factory=True)
        parameters[name] = {"type": kind, "default": default, "description": field.description or ""}
    return {"accepts": method.accepts, "gives": method.gives, "parameters": parameters}


def _summaries(paths: Sequence[Path]) -> list[tuple[Path, dict[str, Any]]]:
    from rayopt.errors import InputError
    from rayopt.runs.folder import RunFolder

    found = []
    for path in paths:
        try:
            found.append((path.parent, RunFolder(path.parent).read_summary()))
        except InputError:
            continue  # a foreign summary.json is none of ours
    return found


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table as wide as the terminal; a file or a pipe has no width of its own: nothing is cut there."""
    from rich.console import Console

    # What is in the cells is the user's: brackets and colons in it mean nothing.
    width = None if sys.stdout.isatty() else 200
    print_table(Console(highlight=False, markup=False, emoji=False, width=width), columns, rows)


def print_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows whose last cell is the steps; where they do not fit beside the figures they go below them."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    figures = sum(width + 2 for width in widths[:-1])
    frame = len(widths) + 3
    if console.width >= WIDE and figures + min(widths[-1], LEAST_STEPS) + frame <= console.width:
        _print_wide(console, columns, rows)
    elif figures <= console.width:
        _print_lines(console, columns, rows, widths[:-1])
    else:
        _print_blocks(console, columns, rows)


def _print_wide(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A line a row, steps in the last column."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(columns[-1], overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _print_lines(
    console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]
) -> None:
    """A line of figures a row, its steps below."""

    def line(cells: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()

    lines = ["", line(columns[:-1]), "─" * console.width]
    for row in rows:
        lines += [line(row[:-1]), *_fill(row[-1].split(" > "), " > ", console.width)]
    console.print("\n".join([*lines, ""]), soft_wrap=True)


def _print_blocks(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Lines of named figures below each row's name: for more figures than fit on one."""
    lines = [""]
    for row in rows:
        named = [f"{column} {cell}" for column, cell in zip(columns[1:-1], row[1:-1], strict=True)]
        lines += [row[0], *_fill(named, ", ", console.width), *_fill(row[-1].split(" > "), " > ", console.width)]
    console.print("\n".join([*lines, ""]), soft_wrap=True)


def _fill(parts: Sequence[str], between: str, width: int) -> list[str]:
    """Parts in indented lines, broken between them and within one only if it is longer than a line."""
    lines = [""]
    for number, part in enumerate(parts):
        part += between.rstrip() if number < len(parts) - 1 else ""
        if lines[-1] and len(lines[-1]) + 1 + len(part) > width - 4:
            lines.append(part)
        else:
            lines[-1] += f" {part}" if lines[-1] else part
    return [f"    {short}" for line in lines for short in textwrap.wrap(line, width - 4)]


def _json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))
