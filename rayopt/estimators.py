"""The best estimator of a search, from its run folder: read where it was saved, else fitted again from its recipe."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rayopt import kinds
from rayopt.certificates import Finding, verify_folder
from rayopt.errors import input_error
from rayopt.runs.cache import Cache
from rayopt.runs.folder import RunFolder
from rayopt.search import saved
from rayopt.searching.best import params_of
from rayopt.spec import parse_document


def load_estimator(run: str | Path, folder: str | Path | None = None, trusted: Sequence[str] = ()) -> Any:
    """The fitted best estimator of a search.

    run: the run's folder. folder: where the job file lay, with its data and modules; needed to fit again what was not
    saved. trusted: names of types beside scikit-learn's own that a saved estimator may hold.
    Raises InputError when files are not those that were written, or the data not those that were searched on.
    """
    kept = RunFolder(Path(run))
    summary = kept.read_summary()
    if summary["kind"] != "search" or not summary.get("path"):
        raise input_error(str(run), "holds no estimator", "give the folder of a search of an estimator that has ended")
    _raise_of(verify_folder(kept.path), str(run))
    place = kept.path / str(summary["path"])
    if (place / saved.FILE).is_file() and saved.is_installed():
        return saved.read((place / saved.FILE).read_bytes(), str(place / saved.FILE), trusted)
    return _fitted_again(kept, json.loads((place / "certificate.json").read_bytes()), folder)


def _raise_of(findings: Sequence[Finding], place: str) -> None:
    for one in findings:
        if one.problem:
            raise input_error(place, one.problem, "run the job again")


def _fitted_again(kept: RunFolder, certificate: dict[str, Any], folder: str | Path | None) -> Any:
    document = parse_document(kept.job.read_text(encoding="utf-8"), str(kept.job), Path(folder or kept.path))
    kind, job = kinds.read_job(document)
    search: Any = kind.prepare(job, document, Cache(None))
    if search.data_sha256 != certificate["data_sha256"]:
        raise input_error(str(kept.path), "the data have changed since the search", "run the job again")
    taken, _ = search.split()
    params = search.rows.at(taken).fit_params(search.estimator)
    params.pop("groups", None)
    chosen = params_of(search, certificate["params"])
    return search.estimator.set_params(**chosen).fit(search.x[taken], search.y[taken], **params)
