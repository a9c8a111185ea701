"""Running a job from Python or for the command line: read, check, prepare, claim the folder, run, report."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rayopt.backend import Backend, InProcess
from rayopt.engine import Desk
from rayopt.errors import input_error
from rayopt.kinds import Prepared
from rayopt.loading import Loaded, load
from rayopt.runs.cache import Cache
from rayopt.runs.folder import RunFolder
from rayopt.tasks import versions
from rayopt.watch import Logged, Silent, Watcher, logging_to

IN_PROCESS = "inprocess"


def run(
    job: str | Path | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    address: str | None = None,
    assignments: Sequence[str] = (),
    overwrite: bool = False,
    watcher: Watcher | None = None,
    cache: str | Path | None = None,
) -> dict[str, Any]:
    """Runs a job to its end and returns its summary; the same as `rayopt run`.

    job: a job file or a dict of its fields. out: the run folder, `runs/NAME` by default. address: a Ray cluster's,
    `inprocess` for no Ray at all, None for a Ray of its own on this machine. assignments: `a.b=value`, as with --set.
    Raises InputError for what is wrong with the job, WorkError when the work fails.
    """
    loaded = load(job, assignments)
    folder = RunFolder(run_folder(out, loaded.job.name))
    prepared = loaded.kind.prepare(loaded.job, loaded.document)
    folder.claim(prepared.hash, loaded.job.name, overwrite)
    try:
        folder.write_plan(loaded.text, {**_identity(loaded, prepared), **prepared.plan(), "versions": versions()})
        desk = Desk(opener(address), address or "local", Cache(cache), Logged(watcher or Silent()), folder)
        with logging_to(folder.log):
            try:
                return loaded.kind.run(prepared, desk)
            finally:
                if folder.summary.is_file():
                    write_report(folder)
    finally:
        folder.release()


def _identity(loaded: Loaded, prepared: Prepared) -> dict[str, Any]:
    return {"job_hash": prepared.hash, "kind": loaded.job.kind, "name": loaded.job.name}


def run_folder(out: str | Path | None, name: str) -> Path:
    """Where a job's results go: `out`, or `runs/NAME`; raises InputError for what is no local path."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(out)):  # a Path has lost the second slash
        raise input_error(f"--out {out}", "is not a local folder", "give a path on this machine")
    return Path(out) if out is not None else Path("runs") / name


def opener(address: str | None) -> Callable[[], Backend]:
    """What makes the backend of an address, once one is needed."""
    if address == IN_PROCESS:
        return InProcess

    def on_ray() -> Backend:
        from rayopt.onray.backend import OnRay

        return OnRay(address)

    return on_ray


def write_report(folder: RunFolder) -> Path:
    """Writes `report.html` from what the run folder holds; raises InputError where there is nothing to report."""
    from rayopt.report.page import render
    from rayopt.runs.files import write_bytes

    summary = folder.read_summary()
    write_bytes(folder.report, render(summary, folder.read_plan()).encode())
    return folder.report
