"""The best estimator of a search: graded on rows that took no part, written down, and what it is made again from."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from rayopt.backend import describe
from rayopt.certificates import probe_by
from rayopt.records import digest
from rayopt.runs.folder import RunFolder
from rayopt.search import saved
from rayopt.search.checks import grids_of
from rayopt.search.space import Space
from rayopt.searching.ranking import plain
from rayopt.searching.search import Search
from rayopt.tasks import versions


def graded(found: Any, metric: str, test: tuple[Any, Any] | None) -> dict[str, Any] | None:
    """The score of the best estimator on the rows that were put aside, or None and the reason why there is none."""
    if test is None or not hasattr(found, "best_estimator_"):
        return None
    scorer = found.scorer_
    if isinstance(scorer, Mapping):
        scorer = scorer.get(metric) or next(iter(scorer.values()))
    try:
        score = float(scorer(found.best_estimator_, *test))
    except Exception as error:  # noqa: BLE001 - a scorer may raise anything, and the search is worth more
        return {"score": None, "n": len(test[1]), "reason": describe(error)}
    if not math.isfinite(score):
        return {"score": None, "n": len(test[1]), "reason": f"the score is {score}"}
    return {"score": score, "n": len(test[1])}


def write_best(search: Search, folder: RunFolder, trial: Mapping[str, Any], best: Any) -> str:
    """What the best estimator is made again from, by `fit`, and itself where skops can write it; gives its place.

    A pickle would run code when it is read.
    """
    id = digest(trial["params"])[:12]
    certificate = {
        "id": id,
        "kind": "search",
        "job_hash": search.hash,
        "params": trial["params"],
        "score": trial["score"],
        "data_sha256": search.data_sha256,
        "seed": search.job["seed"],
        "versions": versions(),
    }
    made_again = {"estimator": search.job["estimator"], "params": trial["params"], "seed": search.job["seed"]}
    files = {"estimator.json": (json.dumps(made_again, indent=2) + "\n").encode()}
    if best is not None and (file := saved.written(best)):
        files[saved.FILE] = file
        certificate["probe"] = probe_by(best, search.x, search.job["seed"])
    certificate["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    folder.write_artifact(id, files, certificate)
    folder.keep_artifacts([id])
    return f"artifacts/{id}"


def params_of(search: Search, written: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as the search had them, from what JSON made of them."""
    if search.job["space"] is not None:
        return Space.from_settings(search.job["space"]).read(written)
    given: dict[str, Any] = {}
    for grid in grids_of(search.job["grid"]):
        for name, values in grid.items():
            given |= {_text(name, plain({name: value})[name]): value for value in values}
    return {name: given.get(_text(name, value), value) for name, value in written.items()}


def _text(name: str, value: Any) -> str:
    """What tells a parameter's values apart: unlike `==` it keeps True from 1."""
    return f"{name}={json.dumps(value, sort_keys=True)}"
