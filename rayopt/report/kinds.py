"""The kinds of report: one module for each kind of job that has a face of its own; `optimize`'s is everyone else's.

Such a module has `headline(summary)`, one sentence of plain text; `TEMPLATE`, its page, which extends `layout.html` or
`plots.html`; and `context(summary)`, what that page is given, `figures` among it. Light to import: the terminal prints
headlines too.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol, cast

OWN = {
    "distill": "rayopt.report.training",
    "graph": "rayopt.report.graph",
    "memory": "rayopt.report.memory",
    "search": "rayopt.report.search",
    "train": "rayopt.report.training",
}


class Face(Protocol):
    """How one kind of job is shown."""

    TEMPLATE: str

    def headline(self, summary: Mapping[str, Any]) -> str: ...

    def context(self, summary: Mapping[str, Any]) -> dict[str, Any]: ...


def face(summary: Mapping[str, Any]) -> Face:
    """The module that shows a summary of its kind."""
    return cast(Face, import_module(OWN.get(str(summary.get("kind")), "rayopt.report.optimize")))


def headline(summary: Mapping[str, Any]) -> str:
    """How a run of any kind ended, in one sentence of plain text."""
    return face(summary).headline(summary)
