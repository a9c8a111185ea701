"""Running a job from Python or for the command line: read, check, prepare, claim the folder, run, report."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayopt import tracked
from rayopt.backend import Backend, InProcess
from rayopt.engine import Desk
from rayopt.errors import input_error
from rayopt.kinds import Prepared
from rayopt.loading import Loaded, load
from rayopt.runs.cache import Cache
from rayopt.runs.folder import RunFolder
from rayopt.runs.remote import RemoteFolder, is_address, work_folder
from rayopt.search.crew import Crew
from rayopt.search.hire import IsWanted, Open
from rayopt.search.hosts import TrialHost
from rayopt.tasks import versions
from rayopt.watch import Logged, Silent, Watcher, logging_to

if TYPE_CHECKING:
    from rayopt.training.seat import Host

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
    track: Sequence[str] = (),
    resume: bool = False,
) -> dict[str, Any]:
    """Runs a job to its end and returns its summary; the same as `rayopt run`.

    job: a job file or a dict of its fields. out: the run folder, `runs/NAME` by default; what is named as text, s3://...
    or gs://..., keeps it there, and the run works in a folder of this machine. address: a Ray cluster's, `inprocess`
    for no Ray at all; None for the one that the caller has started, else one of its own on this machine.
    assignments: `a.b=value`, as with --set. overwrite, track, resume: as the options of these names; a run that was
    broken off goes on where it was in any case.
    Paths in the summary are relative to the run folder. Runs in several threads of a process take turns.
    Raises InputError for what is wrong with the job, WorkError when the work fails.
    """
    with _ONE_AT_A_TIME, ExitStack() as stack:
        wanted = [tracked.wanted(one) for one in track]
        loaded = load(job, assignments)
        remote = RemoteFolder(str(out)) if is_address(out) else None
        folder = RunFolder(remote.work if remote else run_folder(out, loaded.job.name))
        _check_address(address)
        _check_trackers(wanted, loaded.job.name, folder)
        store = Cache(cache)
        prepared = loaded.kind.prepare(loaded.job, loaded.document, store)
        if remote:
            stack.enter_context(remote.kept())
        if resume and folder.owner() is None:
            raise input_error(str(folder.path), "holds no run to go on with", "leave --resume out, or mend --out")
        plan = dict(prepared.plan())
        folder.claim(prepared.hash, loaded.job.name, overwrite, plan)
        stack.callback(folder.release)
        if remote:
            stack.enter_context(remote.mirrored())
        folder.write_plan(loaded.text, {**_identity(loaded, prepared), **plan, "versions": versions()})
        told = _watching(watcher or Silent(), address, loaded.job.name)
        log = stack.enter_context(_tracking(told, wanted, loaded.job.name, folder))
        means = (opener(address), _place(address), store, log, folder)
        hosts = Hosts(address)
        stack.callback(hosts.close)
        open_host = hosts.open if address != IN_PROCESS else None
        desk = Desk(*means, *crew(address), open_host=open_host, open_trials=trials(address))
        return _carry_out(loaded, prepared, desk)


# Seeds, import paths and torch's threads belong to the process: two runs at once would change each other's results.
_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def _tracking(watcher: Watcher, wanted: Sequence[tracked.Wanted], name: str, folder: RunFolder) -> Iterator[Watcher]:
    """The watcher, with the trackers that were asked for told what it is told."""
    if not wanted:
        yield watcher
        return
    from rayopt.onray.trackers import tracker

    told = tracked.Told(folder.tracked)
    trackers = {str(one): tracker(one, name, folder.path, anew=not told[str(one)]) for one in wanted}
    telling = tracked.Tracked(watcher, folder.outcomes, trackers, told)
    failed = True
    try:
        yield telling
        failed = False
    finally:
        telling.close(failed)


def _check_trackers(wanted: Sequence[tracked.Wanted], name: str, folder: RunFolder) -> None:
    for one in wanted:
        if one.name == "tensorboard":
            one.folder(name, folder.path)


def _carry_out(loaded: Loaded, prepared: Prepared, desk: Desk) -> dict[str, Any]:
    with logging_to(desk.folder.log, {"run": loaded.job.name, "run_id": uuid.uuid4().hex[:12]}):
        try:
            return loaded.kind.run(prepared, desk)
        finally:
            if desk.folder.summary.is_file():
                write_report(desk.folder)
            desk.cache.release()


def _watching(watcher: Watcher, address: str | None, name: str) -> Watcher:
    """The watcher with what is logged and, on Ray, counted."""
    if address == IN_PROCESS:
        return Logged(watcher)
    from rayopt.onray.metrics import Metered

    return Metered(Logged(watcher), name)


def _check_address(address: str | None) -> None:
    if address not in (None, IN_PROCESS):
        from rayopt.onray.backend import knock

        knock(str(address))


def _place(address: str | None) -> str:
    """Where timings are taken, as the cache tells places apart: a Ray that the caller has started may be anywhere."""
    if address is None and "ray" in sys.modules:
        from rayopt.onray.backend import joined_address

        return joined_address() or "local"
    return address or "local"


def _identity(loaded: Loaded, prepared: Prepared) -> dict[str, Any]:
    return {"job_hash": prepared.hash, "kind": loaded.job.kind, "name": loaded.job.name}


def run_folder(out: str | Path | None, name: str) -> Path:
    """Where a job's results lie here: `out`, or `runs/NAME`; raises InputError for what is neither path nor address."""
    if is_address(out):
        return work_folder(str(out))
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


def crew(address: str | None) -> tuple[Open | None, bool]:
    """What makes the workers of a search at an address, once they are needed, and whether their Ray runs already."""
    if address == IN_PROCESS:
        return None, False

    def open_crew(is_wanted: IsWanted) -> Crew:
        from rayopt.onray.tune import hire

        return hire(address, is_wanted)

    runs = address is not None or ("ray" in sys.modules and sys.modules["ray"].is_initialized())
    return open_crew, bool(runs)


def trials(address: str | None) -> Callable[[float | None], TrialHost] | None:
    """What starts the host of a search's trials at an address, once they are needed."""
    if address == IN_PROCESS:
        return None

    def open_trials(deadline_s: float | None) -> TrialHost:
        from rayopt.onray.searcher import OnTune

        return OnTune(address, deadline_s)

    return open_trials


class Hosts:
    """The host of a run's trainings with several workers, made once it is needed and kept for the next one."""

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._host: Host | None = None
        self._asked: tuple[dict[str, float], str] | None = None

    def open(self, resources: Mapping[str, float], sharding: str) -> Host:
        from rayopt.onray.train import RayTrain

        asked = dict(resources), sharding
        if self._host is None or self._asked != asked:
            self.close()
            self._host, self._asked = RayTrain(self._address, resources, sharding), asked
        return self._host

    def close(self) -> None:
        if self._host is not None:
            self._host.close()
            self._host = None


def write_report(folder: RunFolder) -> Path:
    """Writes `report.html` from what the run folder holds; raises InputError where there is nothing to report."""
    from rayopt.report.page import render
    from rayopt.runs.files import write_bytes

    summary = folder.read_summary()
    write_bytes(folder.report, render(summary, folder.read_plan()).encode())
    return folder.report
