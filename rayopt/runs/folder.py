"""The one class that knows every path of a run, and keeps a run's folder for that run alone."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from rayopt.errors import InputError, input_error
from rayopt.runs.difference import difference
from rayopt.runs.files import disk_errors, write_bytes, write_folder, write_json

OF_SEARCH = (
    *("cv_results.csv", "cv_results.parquet", "trials.csv", "trials.parquet"),
    *("observations.jsonl", "trials"),
)
OWN = (
    *("job.yaml", "plan.json", "outcomes.jsonl", "artifacts", "summary.json", "report.html", "log.txt", ".lock"),
    *("checkpoints", "memory.json", "log.jsonl", "tensorboard", "tracked.json"),
    *OF_SEARCH,
)
ASIDE = tuple(f".{name}." for name in OWN)


class RunFolder:
    """`job.yaml`, `plan.json`, `outcomes.jsonl`, `artifacts/`, `summary.json`, `report.html`, `log.txt`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.job = path / "job.yaml"
        self.plan = path / "plan.json"
        self.outcomes = path / "outcomes.jsonl"
        self.artifacts = path / "artifacts"
        self.summary = path / "summary.json"
        self.report = path / "report.html"
        self.log = path / "log.txt"
        self.checkpoints = path / "checkpoints"
        self.tracked = path / "tracked.json"
        self.table = path / "cv_results.csv"
        self.columns = path / "cv_results.parquet"
        self.observations = path / "observations.jsonl"
        self.trials = path / "trials"
        self.trials_table = path / "trials.csv"
        self.trials_columns = path / "trials.parquet"
        self._lock: IO[bytes] | None = None

    def claim(self, job_hash: str, name: str, overwrite: bool, plan: Mapping[str, Any] | None = None) -> None:
        """Takes the folder for this job; raises InputError when it is another job's, foreign, or in use.

        plan: what is going to be written down of it, to show the difference.
        """
        with disk_errors(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise input_error(str(self.path), "is a file", "give a folder with --out")
            owner = self.owner()
            if owner is None and self._foreign():
                remedy = "give an empty or new folder with --out"
                raise input_error(str(self.path), "holds files that are not a run's", remedy)
            other = owner is not None and owner != job_hash
            if other and not overwrite:
                problem = f"holds the results of another job or another version of {name!r}"
                remedy = "give another --out, or --overwrite to replace them"
                raise input_error(str(self.path), problem + self._changed(plan), remedy)
            self.path.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            if other:
                self._empty()

    def release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def owner(self) -> str | None:
        """The hash of the job whose results the folder holds, None where it holds none."""
        try:
            return str(self.read_plan()["job_hash"])
        except InputError:
            return None

    def read_summary(self) -> dict[str, Any]:
        """The summary; raises InputError where there is none."""
        try:
            summary = json.loads(self.summary.read_text())
            if isinstance(summary, dict) and {"kind", "name", "status"} <= set(summary):
                return summary
        except (OSError, ValueError):
            pass
        raise input_error(str(self.path), "holds no summary of a run", "give the folder of a run that has ended")

    def read_plan(self) -> dict[str, Any]:
        """The plan; raises InputError where there is none."""
        try:
            plan = json.loads(self.plan.read_text())
            if isinstance(plan, dict) and "job_hash" in plan:
                return plan
        except (OSError, ValueError):
            pass
        raise input_error(str(self.path), "holds no plan of a run", "give the folder of a run")

    def write_plan(self, job_text: str, plan: Mapping[str, Any]) -> None:
        write_bytes(self.job, job_text.encode())
        write_json(self.plan, plan)

    def write_artifact(self, id: str, files: Mapping[str, bytes], certificate: Mapping[str, Any]) -> None:
        write_folder(self.artifacts / id, files)
        write_json(self.artifacts / id / "certificate.json", certificate)

    def keep_artifacts(self, ids: Iterable[str]) -> None:
        """Removes the artifacts of earlier runs of this job that are not among `ids`."""
        wanted = set(ids)
        for folder in self.artifacts.iterdir() if self.artifacts.is_dir() else ():
            if folder.name not in wanted:
                _remove(folder)

    def _changed(self, plan: Mapping[str, Any] | None) -> str:
        """What differs from the plan that is there, in words; the job's fields say more than what follows from them."""
        if plan is None:
            return ""
        before, plan = self.read_plan(), json.loads(json.dumps(plan))
        told = difference(before.get("job") or {}, plan.get("job") or {})
        told = told or difference({name: before.get(name) for name in plan}, plan)
        return f": {told}" if told else ": code that it uses was changed"

    def _foreign(self) -> bool:
        """Whether there are files that no run wrote; `.NAME.*` is what a run that was killed left of NAME."""
        names = [entry.name for entry in self.path.iterdir()] if self.path.is_dir() else []
        return any(name not in OWN and not name.startswith(ASIDE) for name in names)

    def _empty(self) -> None:
        for entry in self.path.iterdir():
            if entry.name != ".lock" and (entry.name in OWN or entry.name.startswith(ASIDE)):
                _remove(entry)

    def _take_lock(self) -> None:
        file = (self.path / ".lock").open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            remedy = "wait for it, or give another --out"
            raise input_error(str(self.path), "is in use by another run", remedy) from error
        except OSError:
            file.close()
            raise
        os.set_inheritable(file.fileno(), False)
        self._lock = file


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for entry in path.iterdir():
            _remove(entry)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
