"""Ray Tune's callbacks for TensorBoard and MLflow, told of a run's candidates as if they were Tune's trials."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rayopt.backend import describe
from rayopt.errors import input_error
from rayopt.tracked import Entry, Wanted

LONGEST = 500  # of a parameter's value, as MLflow takes it
MARK = ".rayopt"  # in the folders of trials that are ours, and so may be removed


@dataclass(eq=False)
class Trial:
    """As much of a trial of Tune as its callbacks look at."""

    trial_id: str
    config: Mapping[str, Any]
    folder: Path
    evaluated_params: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.config = {
            name: value if isinstance(value, bool | int | float | str) else str(value)[:LONGEST]
            for name, value in self.config.items()
        }
        self.evaluated_params = self.config

    @property
    def local_path(self) -> str:
        return str(self.folder / self.trial_id)

    def init_local_path(self) -> None:
        Path(self.local_path).mkdir(parents=True, exist_ok=True)
        (Path(self.local_path) / MARK).touch()

    def __str__(self) -> str:
        return self.trial_id


class CallbackTracker:
    """A Tracker that is one of Tune's callbacks; a training is one trial, of the run's name if it has none."""

    def __init__(self, callback: Any, name: str, folder: Path) -> None:
        self._callback, self._name, self._folder = callback, name, folder
        self._trainings: dict[str, Trial] = {}
        callback.setup()

    def tell(self, entry: Entry) -> None:
        trial = self._trainings.get(entry.id) or self._begun(entry)
        step = entry.step or 1
        self._callback.log_trial_result(step, trial, {**entry.numbers, "training_iteration": step})
        if entry.step is None:
            self._callback.log_trial_end(trial, failed=entry.failed)
        else:
            self._trainings[entry.id] = trial

    def close(self, failed: bool) -> None:
        for trial in self._trainings.values():
            self._callback.log_trial_end(trial, failed=failed)
        self._trainings.clear()

    def _begun(self, entry: Entry) -> Trial:
        trial = Trial(entry.id or self._name, entry.params, self._folder)
        self._callback.log_trial_start(trial)
        return trial


def tracker(wanted: Wanted, name: str, folder: Path, anew: bool) -> CallbackTracker:
    """The tracker for the run `name` in `folder`. anew: it is told everything, so what TensorBoard had of it goes.

    Raises InputError.
    """
    if wanted.name == "tensorboard":
        from ray.tune.logger import TBXLoggerCallback

        there = wanted.folder(name, folder)
        if anew:
            _remove_trials(there)
        callback: Any = TBXLoggerCallback()  # type: ignore[no-untyped-call]
        return CallbackTracker(callback, name, there)
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    try:
        return CallbackTracker(MLflowLoggerCallback(wanted.at or None, experiment_name=name), name, folder)
    except Exception as error:
        problem = f"cannot be told of runs: {describe(error).splitlines()[0]}"
        remedy = "name a server or a data base, such as mlflow:sqlite:///mlflow.db"
        raise input_error(f"--track {wanted.name}:{wanted.at}", problem, remedy) from error


def _remove_trials(folder: Path) -> None:
    """Removes the trials' folders of an earlier run, and nothing that it did not write."""
    for mark in folder.glob(f"*/{MARK}"):
        if not mark.parent.is_symlink():
            shutil.rmtree(mark.parent, ignore_errors=True)
