"""Trials of a search on Ray Tune, several in flight: a Searcher of our own asks for points and tells what came of them.

What is known lies in the search's journal. Tune keeps nothing of its own: a driver that was killed begins another
experiment, whose Searcher goes on from the journal.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from rayopt.errors import WorkError
from rayopt.onray.backend import OnRay
from rayopt.onray.group import Shape
from rayopt.onray.quiet import quiet_tune
from rayopt.onray.train import check_room
from rayopt.search.crew import deadline
from rayopt.search.history import Observation, as_entry, from_entry
from rayopt.search.hosts import Early, Evaluate, Flight
from rayopt.search.parameters import key_of
from rayopt.search.rungs import Rule
from rayopt.search.space import Params

OUTCOME, STEP, VALUE = "outcome", "step_reported", "value_reported"
DIED = "its process died twice"
TRIES = 2
END_S = 15.0


class OnTune:
    """The host on a Ray: the one that the caller has started, the one at `address`, or one of its own."""

    def __init__(self, address: str | None, deadline_s: float | None = None) -> None:
        self._backend, self._deadline_s = OnRay(address), deadline_s
        self.name = "Ray Tune"

    def run(self, flight: Flight) -> None:
        """Returns when nothing is asked for any more and nothing is in flight."""
        most = most_in_flight(flight)
        halt, failures = threading.Event(), list[BaseException]()

        def fit() -> None:
            try:
                with tempfile.TemporaryDirectory(prefix="rayopt-tune-") as folder, quiet_tune():
                    _tuner(flight, most, halt, folder, self._deadline_s).fit()
            except BaseException as error:  # noqa: BLE001 - it is raised in the thread of the search
                failures.append(error)

        thread = threading.Thread(target=fit, daemon=True, name="tune")
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.2)
        finally:
            halt.set()
            thread.join(END_S)
        if failures:
            raise WorkError(f"Ray Tune ended: {type(failures[0]).__name__}: {failures[0]}") from failures[0]

    def close(self) -> None:
        self._backend.close()


class Proposals(Searcher):
    """Tune's face of a flight: each trial is a point of the strategy's; points in flight are the strategy's to know.

    `save` and `restore` keep which trial has which point; observations that a restored journal lacks are told to it.
    """

    def __init__(self, flight: Flight) -> None:
        super().__init__()
        self._flight = flight
        self._points: dict[str, Params] = {}
        self._outcomes: dict[str, Mapping[str, Any]] = {}
        self.errors: dict[str, str] = {}

    def suggest(self, trial_id: str) -> Any:
        """The configuration of the next trial; FINISHED when there is none."""
        with self._flight.heeded():
            params = self._flight.next()
            if params is not None:
                self._points[trial_id] = params
                return {"params": dict(params)}
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        if OUTCOME in result:
            self._outcomes[trial_id] = json.loads(result[OUTCOME])
        elif VALUE in result and trial_id in self._points:
            with self._flight.heeded():
                self._flight.reported(self._points[trial_id], int(result[STEP]), float(result[VALUE]))

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        params = self._points.pop(trial_id, None)
        if result is not None and OUTCOME in result:
            self._outcomes[trial_id] = json.loads(result[OUTCOME])
        outcome = self._outcomes.pop(trial_id, None)
        if params is not None and (outcome is not None or error):
            with self._flight.heeded():
                self._flight.ended(params, outcome or {"reason": self.errors.pop(trial_id, DIED)})

    def save(self, checkpoint_path: str) -> None:
        told = [as_entry(one) for one in self._flight.asking.observations]
        points = {trial: dict(params) for trial, params in self._points.items()}
        Path(checkpoint_path).write_text(json.dumps({"points": points, "told": told}))

    def restore(self, checkpoint_path: str) -> None:
        state = json.loads(Path(checkpoint_path).read_text())
        self._points = dict(state["points"])
        known = {key_of(one.params) for one in self._flight.asking.observations}
        missing: list[Observation] = [from_entry(one) for one in state["told"] if key_of(one["params"]) not in known]
        for one in missing:
            self._flight.asking.tell(one)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune writes its settings down, and what a search knows lies in its journal."""
        return {}


class Referee:
    """An actor beside the trials: ends them early by the search's rule, and knows how long an earlier try took."""

    def __init__(self, rule: Rule | None) -> None:
        self._rule = rule
        self._began: dict[str, float] = {}

    def begin(self, trial: str) -> float | None:
        """Seconds since a try before this one began, None for the first."""
        before, self._began[trial] = self._began.get(trial), time.monotonic()
        return None if before is None else self._began[trial] - before

    def judge(self, trial: str, step: int, value: float) -> bool:
        return self._rule is not None and self._rule.judge(trial, step, value)


class Halted(Stopper):
    """Ends all trials once the search is interrupted."""

    def __init__(self, halt: threading.Event) -> None:
        self._halt = halt

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._halt.is_set()

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Silence(TrialProgressCallback):
    """Tune prints nothing: the search tells of its trials itself. Why a trial's process ended is passed on."""

    def __init__(self, proposals: Proposals) -> None:
        self._proposals = proposals

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None: ...

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        lines = _lines_of(trial.error_file)
        if lines:
            self._proposals.errors[trial.trial_id] = f"{DIED}: {lines[-1]}"

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None: ...


def _lines_of(path: str | None) -> list[str]:
    """The lines in which Tune says why a trial failed."""
    with contextlib.suppress(OSError):
        return [line.strip() for line in Path(path or "").read_text().splitlines() if line.strip()]
    return []


def namer(flight: Flight) -> Callable[[Any], str]:
    """What names Tune's trials: the search's name and the id that the trial has in its run folder."""
    search, id_of = flight.name, flight.id_of  # Tune pickles what names trials, and a flight has a lock

    def name(trial: Any) -> str:
        return f"{search}-{id_of(trial.config['params'])}"

    return name


def most_in_flight(flight: Flight) -> int:
    """How many trials may be in flight; raises InputError where there is no room for the workers of one."""
    team, most = flight.team, min(flight.parallel, flight.asking.count)
    if team.workers == 1:
        return most
    shape = Shape.of(team.workers, team.resources)
    check_room(shape)
    return max(1, min(most, shape.room() // team.workers))


def _tuner(flight: Flight, most: int, halt: threading.Event, folder: str, deadline_s: float | None) -> Any:
    referee = ray.remote(Referee).options(num_cpus=0).remote(flight.rule())
    given = {"evaluate": flight.evaluate, "referee": referee, "early": flight.early, "deadline_s": deadline_s}
    proposals = Proposals(flight)
    own: dict[str, float] = {"CPU": 1} if flight.team.workers == 1 else {"memory": 1}  # the CPUs are for its workers
    return Tuner(
        tune.with_resources(tune.with_parameters(_fly, **given), own),
        tune_config=TuneConfig(
            search_alg=proposals,
            num_samples=-1,
            max_concurrent_trials=most,
            reuse_actors=True,
            trial_name_creator=namer(flight),
            trial_dirname_creator=namer(flight),
        ),
        run_config=RunConfig(
            name=f"{flight.name}-{secrets.token_hex(4)}",  # it begins anew with every driver
            storage_path=folder,
            verbose=0,
            failure_config=FailureConfig(max_failures=TRIES - 1),
            callbacks=[Silence(proposals)],
            stop=Halted(halt),
        ),
    )


def _fly(
    config: dict[str, Any], evaluate: Evaluate, referee: Any, early: Early | None, deadline_s: float | None
) -> None:
    """One trial: reports what it measures on the way, and at last its outcome."""
    params = config["params"]
    key = key_of(params)
    before_s = ray.get(referee.begin.remote(key))
    if deadline_s is not None and before_s is not None and before_s >= deadline_s:
        tune.report({OUTCOME: json.dumps({"reason": f"the trial took longer than {deadline_s:g} s"})})
        return

    def measured(step: int, metrics: Mapping[str, float]) -> bool:
        value = early.value(metrics) if early else None
        plain = {name: float(one) for name, one in metrics.items() if isinstance(one, int | float)}
        tune.report(plain if value is None else {**plain, STEP: step, VALUE: value})
        return value is not None and bool(ray.get(referee.judge.remote(key, step, value)))

    with deadline(deadline_s):  # Tune starts the trial again, which then knows how long it took
        outcome = evaluate(params, measured)
    tune.report({OUTCOME: json.dumps(outcome)})
