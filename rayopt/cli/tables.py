"""Tables and JSON documents on stdout."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 120  # from this many columns on, a table has a column for the steps ...
LEAST_STEPS = 24  # ... if this many are left for it


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
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


def show_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))
