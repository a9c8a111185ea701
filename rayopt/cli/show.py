"""Results on stdout: tables for people, one JSON document for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rayopt.cli.tables import show_json

if TYPE_CHECKING:
    from rayopt.certificates import Finding

OWN = {  # the kinds of job with a face of their own
    "distill": "rayopt.cli.show_training",
    "graph": "rayopt.cli.show_graph",
    "memory": "rayopt.cli.show_memory",
    "search": "rayopt.cli.show_search",
    "train": "rayopt.cli.show_training",
}
COMPARED = ("baseline", "recommended", "best_params", "best_score", "best_std")


def show_summary(summary: Mapping[str, Any], folder: Path, as_json: bool) -> None:
    """What a run has found and where the report is, as its kind of job shows it."""
    if as_json:
        show_json(summary)
    else:
        _face(summary).show(summary, folder)


def show_methods(as_json: bool) -> None:
    """Every method with what it takes and gives, and its parameters."""
    from rayopt import methods, plugins

    found = {name: methods.find(name, name) for name in plugins.names("rayopt.methods")}
    if as_json:
        show_json({name: _method(method) for name, method in found.items()})
        return
    for name, method in found.items():
        click.echo(f"{name}  ({method.accepts} -> {method.gives})\n    {methods.summary_of(method)}")
        for parameter, told in _method(method)["parameters"].items():
            more = f"  {told['description']}" if told["description"] else ""
            click.echo(f"    {parameter}: {told['type']} = {told['default']!r}{more}")


def show_findings(findings: Sequence[Finding], as_json: bool) -> None:
    """What `verify` found, a line a model."""
    if as_json:
        show_json([{"id": one.id, "problem": one.problem or None, "max_error": one.max_error} for one in findings])
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
        show_json([{"folder": str(path), "name": one["name"], "status": one["status"]} for path, one in summaries])
        return
    from rayopt.report.kinds import headline

    for path, one in summaries:
        click.echo(f"{path}  {one['status']}  {headline(one)}")
    if not summaries:
        click.echo(f"no runs below {folder}")


def show_comparison(folders: Sequence[Path], as_json: bool) -> None:
    """What several runs recommend, side by side."""
    from rayopt.runs.folder import RunFolder

    found = {str(folder): RunFolder(folder).read_summary() for folder in folders}
    if as_json:
        show_json({folder: {name: one[name] for name in COMPARED if name in one} for folder, one in found.items()})
        return
    for kind in dict.fromkeys(one["kind"] for one in found.values()):
        same = {folder: one for folder, one in found.items() if one["kind"] == kind}
        _face(next(iter(same.values()))).compare(same)


def _face(summary: Mapping[str, Any]) -> Any:
    """The module that shows a kind of job: `show(summary, folder)`, and `compare` for several of them by folder."""
    return import_module(OWN.get(summary["kind"], "rayopt.cli.show_optimize"))


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
