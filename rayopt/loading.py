"""From a job file, or the same as a dict, to a checked job; loads no model and no data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rayopt import kinds, plugins
from rayopt.errors import input_error
from rayopt.kinds import JobSettings, Kind
from rayopt.spec import Document, override, parse_document, read_document
from rayopt.yamltext import dump


@dataclass(frozen=True)
class Loaded:
    """A job that has been read and checked, and the document it came from."""

    document: Document
    kind: Kind
    job: JobSettings
    text: str


def load(job: str | Path | Mapping[str, Any], assignments: Sequence[str] = ()) -> Loaded:
    """Reads and checks a job: a file, or the same as a dict. Loads no model and no data; raises InputError.

    Modules that earlier jobs brought in from their folders are read again: they may have been edited since.
    """
    plugins.forget()
    if isinstance(job, Mapping):
        text = _as_yaml(job)
        document = replace(parse_document(text, "job", Path.cwd()), lines={})
    else:
        document = read_document(Path(job))
        text = Path(job).read_text(encoding="utf-8")
    if assignments:
        document = override(document, assignments)
        text = dump(document.data)
    kind, settings = kinds.read_job(document)
    return Loaded(document, kind, settings, text)


def check_plannable(job: Path) -> None:
    """Raises InputError where the memory of a job's steps is not planned apart from its run."""
    document = read_document(job)
    kind = document.data.get("kind")
    if kind in ("distill", "optimize", "search", "graph"):
        remedy = "add `memory: {budget: 8GiB}` to it: its run plans before the first step" if kind == "distill" else ""
        problem = f"is of kind {kind!r}; the steps of `train` are planned alone"
        raise input_error(document.place(("kind",)), problem, remedy or "give a job of kind `train`")


def job_of_model(
    model: Path, data: str | None = None, target: str | None = None, max_drop: float | None = None
) -> dict[str, Any]:
    """The job that a model file alone stands for: the recipe `auto` within the accuracy budget `max_drop`."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", model.stem).lstrip("-._") or "model"
    job: dict[str, Any] = {"kind": "optimize", "name": name[:100], "model": {"onnx": str(model)}, "recipe": "auto"}
    if data is not None:
        job["data"] = {"source": data} | ({"target": target} if target is not None else {})
    if max_drop is not None:
        job["max_accuracy_drop"] = max_drop
    return job


def job_of_models(models: Path) -> dict[str, Any]:
    """The `graph` job that a model file or a folder of them alone stands for."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", models.absolute().stem).lstrip("-._") or "models"
    return {"kind": "graph", "name": name[:100], "models": str(models)}


def _as_yaml(job: Mapping[str, Any]) -> str:
    try:
        return dump(json.loads(json.dumps(job)))
    except (TypeError, ValueError) as error:
        raise input_error(
            "job", f"holds what a job file cannot: {error}", "give text, numbers, lists and dicts"
        ) from error
