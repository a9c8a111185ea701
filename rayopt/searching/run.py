"""A search job from start to end: evaluate, tell what comes out as it comes, and write it down."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rayopt.backend import describe
from rayopt.engine import Desk
from rayopt.errors import InputError, WorkError
from rayopt.measure.machine import machine
from rayopt.records import digest
from rayopt.runs.files import write_bytes, write_json
from rayopt.runs.hidden import redact
from rayopt.search import wrapped
from rayopt.search.cells import Own
from rayopt.search.checks import metric_names
from rayopt.search.history import History
from rayopt.search.importance import importance
from rayopt.search.runner import Means, Runner
from rayopt.search.space import Space
from rayopt.search.store import CachedCells
from rayopt.searching.best import graded, write_best
from rayopt.searching.proposing import asking_of
from rayopt.searching.ranking import Chosen, Trial, fronts, grid_count, importance_of_grid, means, plain, ranked
from rayopt.searching.search import Search
from rayopt.searching.told import Told, who
from rayopt.tasks import versions

if TYPE_CHECKING:
    from rayopt.search.proposed import Candidates


class Searching:
    """One run of a search; `run` may be called once."""

    def __init__(self, search: Search, desk: Desk) -> None:
        self._search, self._desk = search, desk
        self._told = Told(search, desk)
        self._candidates: Candidates | None = None
        self._test: tuple[Any, Any] | None = None

    def run(self) -> dict[str, Any]:
        """Everything; the summary is written however the run ends."""
        start = time.perf_counter()
        self._desk.cache.hold()  # what this run finds there is there until its end
        x, y, params = self._rows()
        found = self._sklearn_search(len(y))
        runner = Runner(self._means(), self._store(), self._told, self._candidates)
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                wrapped.fit(found, self._evaluate(runner), x, y, **params)
        except KeyboardInterrupt:
            self._write("interrupted", time.perf_counter() - start, None, runner)
            raise
        except InputError:
            raise
        except Exception as error:
            reason = _reason(error)
            self._write("failed", time.perf_counter() - start, None, runner, reason)
            raise WorkError(reason) from error
        finally:
            runner.close()
        for one in {str(one.message): one for one in said}.values():
            self._told.note(f"{one.category.__name__}: {one.message}")
        if not any(map(math.isfinite, means(found.cv_results_, self._search, self._search.metric))):
            reason = f"no candidate has a score: {self._told.trials()[0]['reason']}"
            self._write("failed", time.perf_counter() - start, None, runner, reason)
            raise WorkError(reason)
        return self._finish(time.perf_counter() - start, found, runner)

    def _finish(self, seconds: float, found: Any, runner: Runner) -> dict[str, Any]:
        """Writes all that was found; where the bounds allow nothing, or something odd cannot be written, that."""
        try:
            if self._search.has_aim:
                Chosen(self._search)(found.cv_results_)  # scikit-learn asks only where it fits the best one again
            return self._write("done", seconds, found, runner)
        except InputError:
            raise
        except Exception as error:
            reason = _reason(error)
            self._write("failed", seconds, None, runner, reason)
            raise WorkError(reason) from error

    def _evaluate(self, runner: Runner) -> wrapped.Evaluate:
        if self._candidates is None:
            return runner
        from rayopt.search.proposed import Flown

        return Flown(runner, self._candidates)

    def _rows(self) -> tuple[Any, Any, dict[str, Any]]:
        """The rows that take part, and what `fit` is told of each; those of the test share are put aside."""
        search = self._search
        taken, test = search.split()
        if test is not None:
            self._test = search.x[test], search.y[test]
        return search.x[taken], search.y[taken], search.rows.at(taken).fit_params(search.estimator)

    def _store(self) -> CachedCells:
        deadline_s = self._search.job["deadline_s"]
        late = digest([deadline_s, str(self._desk.folder.path.resolve())]) if deadline_s is not None else ""
        return CachedCells(self._desk.cache, self._search.context, late)

    def _means(self) -> Means:
        search, desk = self._search, self._desk
        own = Own(search.folder, search.code)
        common = {"deadline_s": search.job["deadline_s"], "share_prefixes": search.job["share_prefixes"], "own": own}
        if desk.open_crew is None:
            return Means(in_process=True, **common)
        return Means(desk.open_crew, desk.ray_runs, **common)

    def _sklearn_search(self, rows: int) -> Any:
        search, job = self._search, self._search.job
        score = math.nan if job["error_score"] == "nan" else job["error_score"]
        common = {
            "cv": search.cv,
            "scoring": search.scoring,
            "refit": Chosen(search) if search.has_aim and job["refit"] else search.refit,
            "error_score": score,
            "return_train_score": job["return_train_score"],
        }
        if job["strategy"] == "halving":
            from sklearn.experimental import enable_halving_search_cv  # noqa: F401
            from sklearn.model_selection import HalvingGridSearchCV

            common |= job["halving"] | {"random_state": job["seed"]}
            return HalvingGridSearchCV(search.estimator, job["grid"], **common)
        from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

        if job["grid"] is None:
            return self._proposed(common)
        if job["strategy"] == "random":
            count = min(job["n_trials"], grid_count(job["grid"]))
            return RandomizedSearchCV(search.estimator, job["grid"], n_iter=count, random_state=job["seed"], **common)
        return GridSearchCV(search.estimator, job["grid"], **common)

    def _proposed(self, common: Mapping[str, Any]) -> Any:
        """A search whose candidates a strategy proposes, several in flight."""
        from rayopt.search.proposed import Candidates, ProposedSearchCV

        search, job = self._search, self._search.job
        space = Space.from_settings(job["space"])
        history = History(self._desk.folder.observations, space)
        history.begin(search.aim.about())
        for line in search.warm.left_out:
            self._told.note(f"warm start without {line}")
        self._told.expect(job["n_trials"])
        asking = asking_of(job, space, history, search.aim, search.warm)
        self._candidates = Candidates(asking, job["parallel"], search.aim.goals[0], metric_names(job["scoring"])[0])
        return ProposedSearchCV(search.estimator, self._candidates, **common)

    def _of_proposals(self, status: str, trials: Sequence[Trial]) -> dict[str, Any]:
        """What the summary says of a strategy's proposals."""
        shares = self._importance(trials) if status == "done" else {}
        if self._candidates is None:
            return {"importance": shares}
        stopped, warm = self._candidates.asking.over, len(self._search.warm.observations)
        return {"stopped": stopped, "warm_start": warm, "importance": shares}

    def _importance(self, trials: Sequence[Trial]) -> dict[str, float]:
        """How much each parameter matters; empty where that cannot be told, which is no reason to lose a search."""
        job = self._search.job
        try:
            if self._candidates is None:
                return importance_of_grid(job["grid"], trials)
            return importance(Space.from_settings(job["space"]), self._candidates.asking.observations)
        except Exception as error:  # noqa: BLE001
            self._told.note(f"the importance of the parameters cannot be told: {describe(error)}")
            return {}

    def _write(
        self, status: str, seconds: float, found: Any, runner: Runner, reason: str | None = None
    ) -> dict[str, Any]:
        """The tables, the recipe of the best estimator, then the summary that names them."""
        folder, search = self._desk.folder, self._search
        if status != "done" and self._was_done():
            return folder.read_summary()
        trials = self._trials(found)
        best = trials[0] if trials and trials[0]["rank"] is not None else None
        summary = {
            "kind": "search",
            "name": search.job["name"],
            "status": status,
            "reason": reason,
            "seconds": round(seconds, 2),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "job_hash": search.hash,
            "strategy": search.job["strategy"],
            "metric": search.metric,
            "direction": search.aim.goals[0].direction,
            "best_params": best["params"] if best else None,
            "best_score": best["score"] if best else None,
            "best_std": best["std"] if best else None,
            "folds": int(found.n_splits_) if found is not None else None,
            "rows": len(search.x) - (len(self._test[1]) if self._test else 0),
            "test": graded(found, search.metric, self._test),
            **self._of_proposals(status, trials),
            **(fronts(found, search) if found is not None else {}),
            "trials": trials,
            "cells": runner.evaluated,
            "evaluated_by": dict(runner.by),
            "evaluated": who(runner.by, self._desk.open_crew is not None),
            "path": None,
            "environment": {**machine(), "versions": versions()},
        }
        if found is not None:
            self._write_tables(found)
            if best is not None:
                summary["path"] = write_best(search, folder, best, getattr(found, "best_estimator_", None))
        write_json(folder.summary, summary)
        return summary

    def _trials(self, found: Any) -> list[Trial]:
        """The candidates, best first, with why they failed."""
        if found is None:
            return self._told.trials()
        trials = [{**one, "reason": self._told.reason(one["id"])} for one in ranked(found, self._search)]
        return [{**one, "status": "failed" if one["reason"] else one["status"]} for one in trials]

    def _write_tables(self, found: Any) -> None:
        import pandas

        table = pandas.DataFrame(found.cv_results_)
        table["params"] = [json.dumps(plain(params)) for params in table["params"]]
        for name in table.columns:
            if name.startswith("param_") and table[name].dtype == object:
                table[name] = [None if one is None else str(one) for one in table[name]]
        folder = self._desk.folder
        write_bytes(folder.table, table.to_csv(index=False).encode())
        write_bytes(folder.columns, table.to_parquet(index=False))

    def _was_done(self) -> bool:
        try:
            before = self._desk.folder.read_summary()
        except InputError:
            return False
        return before["status"] == "done" and before.get("job_hash") == self._search.hash


def _reason(error: BaseException) -> str:
    """Why a search failed, in one line: scikit-learn tells of fits that fail in many."""
    said = redact(str(error))
    if isinstance(error, WorkError):
        return said
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("---")]
    if len(lines) > 2 and lines[0].startswith("All the"):
        return f"{lines[0]} {lines[-1]}"
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
