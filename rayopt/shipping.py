"""A trained model as files that would be shipped: exported, measured, certified, and told of in a summary."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rayopt import methods
from rayopt.certificates import probe
from rayopt.engine import Desk
from rayopt.errors import StepError
from rayopt.models.threads import torch_threads
from rayopt.records import Artifact, Scores
from rayopt.tasks import versions
from rayopt.training.loop import Trained
from rayopt.training.source import labeled
from rayopt.work import Bench, evaluate

SPLITS = ("selection", "test")


def ship(trained: Trained, bench: Bench, job_hash: str, desk: Desk) -> dict[str, Any]:
    """The trained model as files in the run folder, with its certificate, measured as the file that would be shipped.

    A model that does not export is measured as the torch model it is, and the reason told.
    """
    weights, reason, exported = trained.artifact, "", None
    try:
        export = methods.find("export_onnx", "export_onnx")
        context = methods.Context(bench.data, bench.source, None, bench.seed)
        with torch_threads(1):
            exported = export.apply(weights, export.Params(), context)
    except StepError as error:
        reason = str(error)
    files = {**(exported.files if exported else {}), **weights.files}
    shipped = Artifact("onnx" if exported else "torch", files)
    scores = {split: _scores(exported, weights, split, bench) for split in SPLITS}
    id = shipped.sha256[:12]
    certificate = {
        "id": id,
        "job_hash": job_hash,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "sha256": shipped.sha256,
        "size_bytes": shipped.size_bytes,
        "seed": bench.seed,
        "data_sha256": bench.data.sha256,
        "scores": {split: asdict(one) for split, one in scores.items()},
        "versions": versions(),
        **({"probe": probe(exported, bench.data["selection"].x, bench.seed)} if exported else {}),
    }
    desk.folder.write_artifact(id, files, certificate)
    return {
        "id": id,
        "path": f"artifacts/{id}",
        "sha256": shipped.sha256,
        "size_bytes": shipped.size_bytes,
        "not_exported": reason or None,
        "scores": scores,
    }


def _scores(exported: Artifact | None, weights: Artifact, split: str, bench: Bench) -> Scores:
    if exported is not None:
        return evaluate(exported, split, bench, exported)
    from rayopt.measure.metrics import find_metric, score
    from rayopt.models.torch_model import from_artifact, run

    rows = labeled(bench.data[split])
    outputs = run(from_artifact(weights, bench.source, bench.seed), rows.x)
    return score(find_metric(bench.metric, bench.source.folder, "metric"), bench.data.task, rows.y, outputs)


def shown(shipped: Mapping[str, Any]) -> dict[str, Any]:
    """What a summary says of a shipped model."""
    return {
        "metrics": figures(shipped["scores"]),
        "path": shipped["path"],
        "not_exported": shipped["not_exported"],
        "model": {name: shipped[name] for name in ("id", "path", "sha256", "size_bytes")},
    }


def figures(scores: Mapping[str, Scores]) -> dict[str, float | int]:
    """The scores of both splits by name, the test split's without a prefix, with their 95 % intervals and rows."""
    found: dict[str, float | int] = {}
    for split, one in scores.items():
        prefix = "" if split == "test" else f"{split}_"
        found |= {f"{prefix}{name}": value for name, value in one.others.items() if math.isfinite(value)}
        found |= {
            f"{prefix}{one.metric}": one.value,
            f"{prefix}{one.metric}_low": one.low,
            f"{prefix}{one.metric}_high": one.high,
            f"{prefix}{one.metric}_n": one.n,
        }
    return found
