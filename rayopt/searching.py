"""A search job from start to end: evaluate, tell what comes out as it comes, and write it down."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rayopt.certificates import probe_by
from rayopt.engine import Desk
from rayopt.errors import InputError, WorkError, input_error
from rayopt.measure.machine import machine
from rayopt.proposing import asking_of
from rayopt.records import digest
from rayopt.runs import journal
from rayopt.runs.files import write_bytes, write_json
from rayopt.search import saved, wrapped
from rayopt.search.cells import Cell, Own, Result
from rayopt.search.goals import Aim, Goal
from rayopt.search.history import COLD, History, Observation, WarmStart
from rayopt.search.importance import importance
from rayopt.search.rows import Rows
from rayopt.search.runner import Means, Progress, Runner
from rayopt.search.space import Space
from rayopt.search.store import CachedCells
from rayopt.tasks import versions
from rayopt.watch import Watcher

if TYPE_CHECKING:
    from rayopt.search.proposed import Candidates

Trial = dict[str, Any]
LEARNT = 100  # candidates of a grid that its parameters' importance is learnt from: the work grows with their cube


@dataclass(frozen=True)
class Search:
    """A checked search job with its estimator and data; x `(rows, features)`, y `(rows,)`."""

    job: dict[str, Any]
    estimator: Any
    x: Any
    y: Any
    cv: Any
    scoring: Any
    code: str
    folder: str
    rows: Rows = field(default_factory=Rows)
    warm: WarmStart = COLD

    @property
    def aim(self) -> Aim:
        return Aim((Goal(metric=self.title),), {})

    @cached_property
    def data_sha256(self) -> str:
        total = hashlib.sha256()
        for array in (self.x, self.y, *self.rows.arrays()):
            array = np.ascontiguousarray(array if array.dtype.kind != "O" else array.astype(str))
            total.update(f"{array.shape} {array.dtype.str}".encode() + array.tobytes())
        return total.hexdigest()

    @cached_property
    def hash(self) -> str:
        return digest([self.job, self.code, self.data_sha256])

    @property
    def context(self) -> str:
        """All that decides a cell's result but its parameters and rows."""
        names = (
            "estimator",
            "scoring",
            "error_score",
            "return_train_score",
            "seed",
            "test",
            "data",
            "groups",
            "sample_weight",
        )
        return digest([{name: self.job[name] for name in names}, self.code, self.data_sha256, versions()])

    @property
    def metric(self) -> str:
        """The name of what decides, as scikit-learn's results have it."""
        if isinstance(self.scoring, dict):
            return str(self.job["refit"]) if isinstance(self.job["refit"], str) else next(iter(self.scoring))
        return "score"

    @property
    def title(self) -> str:
        """The same for people."""
        if self.metric != "score":
            return self.metric
        named = self.job["scoring"]
        return str(named) if isinstance(named, str) else "score"

    def split(self) -> tuple[Any, Any]:
        """Which rows take part, and which are the test's (None for none); raises InputError."""
        if not self.job["test"]:
            return slice(None), None
        try:
            taken, test = self._taken_and_test()
        except ValueError as error:
            raise input_error("test", f"cannot be split off: {error}", "give another share, or none") from error
        return taken, test

    def _taken_and_test(self) -> Any:
        """Those of a group stay together, else classes are in both in the same shares."""
        from sklearn.base import is_classifier
        from sklearn.model_selection import GroupShuffleSplit, train_test_split

        seed, share, groups = self.job["seed"], self.job["test"], self.rows.groups
        if groups is not None:
            return next(GroupShuffleSplit(1, test_size=share, random_state=seed).split(self.x, groups=groups))
        by_class = self.y if is_classifier(self.estimator) else None
        return train_test_split(np.arange(len(self.y)), test_size=share, random_state=seed, stratify=by_class)

    def plan(self) -> dict[str, Any]:
        data = {"sha256": self.data_sha256, "shape": list(self.x.shape[1:]), "rows": {"all": len(self.x)}}
        return {"job": self.job, "metric": self.title, "data": data, "estimator": repr(self.estimator)}


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
        x, y, params = self._rows()
        found = self._sklearn_search(len(y))
        runner = Runner(
            self._means(), CachedCells(self._desk.cache, self._search.context), self._told, self._candidates
        )
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
        return self._write("done", time.perf_counter() - start, found, runner)

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
            "refit": job["refit"],
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
            count = min(job["n_trials"], _grid_count(job["grid"]))
            return RandomizedSearchCV(search.estimator, job["grid"], n_iter=count, random_state=job["seed"], **common)
        return GridSearchCV(search.estimator, job["grid"], **common)

    def _proposed(self, common: Mapping[str, Any]) -> Any:
        """A search whose candidates a strategy proposes, several in flight."""
        from rayopt.search.proposed import Candidates, ProposedSearchCV

        search, job = self._search, self._search.job
        history = History(self._desk.folder.observations)
        history.begin(search.aim.about())
        for line in search.warm.left_out:
            self._told.note(f"warm start without {line}")
        self._told.expect(job["n_trials"])
        asking = asking_of(job, Space.from_settings(job["space"]), history, search.aim, search.warm)
        self._candidates = Candidates(asking, job["parallel"], search.metric)
        return ProposedSearchCV(search.estimator, self._candidates, **common)

    def _of_proposals(self, status: str, trials: Sequence[Trial]) -> dict[str, Any]:
        """What the summary says of a strategy's proposals."""
        if self._candidates is None:
            return {"importance": _importance_of_grid(self._search.job["grid"], trials) if status == "done" else {}}
        asking, space = self._candidates.asking, Space.from_settings(self._search.job["space"])
        return {
            "stopped": asking.over,
            "warm_start": len(self._search.warm.observations),
            "importance": importance(space, asking.observations) if status == "done" else {},
        }

    def _write(
        self, status: str, seconds: float, found: Any, runner: Runner, reason: str | None = None
    ) -> dict[str, Any]:
        """The tables, the recipe of the best estimator, then the summary that names them."""
        folder, search = self._desk.folder, self._search
        if status != "done" and self._was_done():
            return folder.read_summary()
        trials = self._told.trials() if found is None else _ranked(found, search.metric)
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
            "metric": search.title,
            "best_params": best["params"] if best else None,
            "best_score": best["score"] if best else None,
            "best_std": best["std"] if best else None,
            "folds": int(found.n_splits_) if found is not None else None,
            "rows": len(search.x) - (len(self._test[1]) if self._test else 0),
            "test": self._graded(found),
            **self._of_proposals(status, trials),
            "trials": trials,
            "cells": runner.evaluated,
            "evaluated_by": dict(runner.by),
            "path": None,
            "environment": {**machine(), "versions": versions()},
        }
        if found is not None:
            self._write_tables(found)
            summary["path"] = self._write_best(summary, getattr(found, "best_estimator_", None))
        write_json(folder.summary, summary)
        return summary

    def _graded(self, found: Any) -> dict[str, Any] | None:
        """The score of the best estimator on the rows that were put aside."""
        if self._test is None or found is None or not hasattr(found, "best_estimator_"):
            return None
        return {"score": float(found.score(*self._test)), "n": len(self._test[1])}

    def _write_tables(self, found: Any) -> None:
        import pandas

        table = pandas.DataFrame(found.cv_results_)
        table["params"] = [json.dumps(_plain(params)) for params in table["params"]]
        for name in table.columns:
            if name.startswith("param_") and table[name].dtype == object:
                table[name] = [None if one is None else str(one) for one in table[name]]
        folder = self._desk.folder
        write_bytes(folder.table, table.to_csv(index=False).encode())
        write_bytes(folder.columns, table.to_parquet(index=False))

    def _write_best(self, summary: Mapping[str, Any], best: Any) -> str:
        """What the best estimator is made again from, by `fit`, and itself where skops can write it: a pickle would
        run code when it is read."""
        search, id = self._search, digest(summary["best_params"])[:12]
        certificate = {
            "id": id,
            "kind": "search",
            "job_hash": search.hash,
            "params": summary["best_params"],
            "score": summary["best_score"],
            "data_sha256": search.data_sha256,
            "seed": search.job["seed"],
            "versions": versions(),
        }
        made_again = {
            "estimator": search.job["estimator"],
            "params": summary["best_params"],
            "seed": search.job["seed"],
        }
        content = (json.dumps(made_again, indent=2) + "\n").encode()
        files = {"estimator.json": content}
        if best is not None and (file := saved.written(best)):
            files[saved.FILE] = file
            certificate["probe"] = probe_by(best.predict, search.x, search.job["seed"])
        certificate["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        self._desk.folder.write_artifact(id, files, certificate)
        self._desk.folder.keep_artifacts([id])
        return f"artifacts/{id}"

    def _was_done(self) -> bool:
        try:
            before = self._desk.folder.read_summary()
        except InputError:
            return False
        return before["status"] == "done" and before.get("job_hash") == self._search.hash


class Told(Progress):
    """Passes on what a search does: a line of the journal and a word to the watcher for each candidate."""

    def __init__(self, search: Search, desk: Desk) -> None:
        self._metric, self._title = search.metric, search.title
        self._watcher: Watcher = desk.watcher
        self._path = desk.folder.outcomes
        self._known = {line["id"] for line in journal.read(self._path) if "id" in line}
        self._lock = threading.Lock()
        self._open: dict[int, list[tuple[Result, bool]]] = {}
        self._folds = 0
        self._expected = self._count = self._ended = self._round = 0
        self._done: list[Trial] = []
        self._best: float | None = None

    def trials(self) -> list[Trial]:
        """What is finished so far, best first."""
        scored = sorted((one for one in self._done if one["score"] is not None), key=lambda one: -one["score"])
        unscored = [one for one in self._done if one["score"] is None]
        ranked = [{**one, "rank": rank} for rank, one in enumerate(scored, start=1)]
        return [*ranked, *({**one, "rank": None} for one in unscored)]

    def expect(self, count: int) -> None:
        """There will be so many candidates, though they are not known yet."""
        self._expected = count

    def round_read(self, cells: Sequence[Cell]) -> None:
        self._round += 1
        self._open = {}
        self._folds = len({cell.fold for cell in cells})
        self._count = max(self._expected, self._count + len(cells) // max(1, self._folds))
        self._watcher.planned(self._count)

    def crew_joined(self, name: str, seconds: float) -> None:
        self._watcher.backend_started(name, None, seconds)

    def note(self, text: str) -> None:
        self._watcher.note(text)

    def cell_ended(self, cell: Cell, result: Result, cached: bool, left_s: float | None) -> None:
        with self._lock:
            folds = self._open.setdefault(cell.candidate, [])
            folds.append((result, cached))
            if len(folds) == self._folds:
                del self._open[cell.candidate]
                self._candidate_ended(cell, folds, left_s)

    def _candidate_ended(self, cell: Cell, folds: Sequence[tuple[Result, bool]], left_s: float | None) -> None:
        params = _plain(cell.parameters)
        scores = [_score(result, self._metric) for result, _ in folds]
        score = None if any(math.isnan(one) for one in scores) else statistics.fmean(scores)
        failures = [result["fit_error"] for result, _ in folds if result["fit_error"]]
        trial: Trial = {
            "id": digest([self._round, params])[:12],
            "params": params,
            "score": score,
            "std": statistics.pstdev(scores) if score is not None else None,
            "seconds": round(sum(result["fit_time"] + result["score_time"] for result, _ in folds), 4),
            "status": "failed" if failures else "done",
            "reason": _last_line(failures[0]) if failures else "",
        }
        self._done.append(trial)
        if trial["id"] not in self._known:
            self._known.add(trial["id"])
            journal.append(self._path, trial)
        self._ended += 1
        if score is not None and (self._best is None or score > self._best):
            self._best = score
        self._watcher.candidate(trial["id"], trial["status"], {} if self._best is None else {self._title: self._best})
        self._watcher.ended(
            trial["id"], self._words(trial, left_s), trial["status"], trial["reason"], all(one for _, one in folds)
        )

    def _words(self, trial: Trial, left_s: float | None) -> str:
        """`C=1, gamma=0.1: accuracy 0.981 (best so far 0.983, about 3 s left)`."""
        shown = "no score" if trial["score"] is None else f"{self._title} {trial['score']:.4g}"
        so_far = [] if self._best is None else [f"best so far {self._best:.4g}"]
        if left_s is not None and self._ended < self._count:
            so_far.append(f"about {left_s:.0f} s left" if left_s >= 1 else "less than a second left")
        params = ", ".join(f"{name}={value}" for name, value in trial["params"].items())
        return f"{params}: {shown}" + (f" ({', '.join(so_far)})" if so_far else "")


def _ranked(found: Any, metric: str) -> list[Trial]:
    """scikit-learn's results with its ranks; the one that it chose first (of halving, the best of the last round)."""
    results = found.cv_results_
    trials = []
    for index, params in enumerate(results["params"]):
        score, std = float(results[f"mean_test_{metric}"][index]), float(results[f"std_test_{metric}"][index])
        fitted = float(results["mean_fit_time"][index] + results["mean_score_time"][index]) * found.n_splits_
        is_scored = math.isfinite(score)
        trial = {
            "id": digest([int(results["iter"][index]) + 1 if "iter" in results else 1, _plain(params)])[:12],
            "number": index + 1,
            "params": _plain(params),
            "score": score if is_scored else None,
            "std": std if math.isfinite(std) else None,
            "rank": int(results[f"rank_test_{metric}"][index]) if is_scored else None,
            "seconds": round(fitted, 4),
            "status": "done" if is_scored else "failed",
        }
        if "n_resources" in results:
            trial["resources"] = int(results["n_resources"][index])
        trials.append((index != getattr(found, "best_index_", -1), trial["rank"] or math.inf, index, trial))
    return [trial for *_, trial in sorted(trials, key=lambda one: one[:3])]


def _importance_of_grid(grid: Any, trials: Sequence[Trial]) -> dict[str, float]:
    """How much each parameter of a grid matters; empty for several grids, and for values that are no choices."""
    if not isinstance(grid, Mapping):
        return {}
    several = {name: list(values) for name, values in grid.items() if len(values) > 1}
    numbers = {name for name, values in several.items() if all(type(one) in (int, float) for one in values)}
    written = {
        name: {"choices": sorted(set(values)) if name in numbers else values, "ordered": name in numbers}
        for name, values in several.items()
    }
    try:
        space = Space.from_settings(written)
    except InputError:
        return {}
    step = max(1, len(trials) // LEARNT)
    seen = [Observation({name: one["params"][name] for name in several}, one["score"]) for one in trials[::step]]
    return importance(space, seen)


def _grid_count(grid: Any) -> int:
    grids = grid if isinstance(grid, list) else [grid]
    return sum(math.prod(len(values) for values in one.values()) for one in grids)


def _score(result: Result, metric: str) -> float:
    scores = result["test_scores"]
    return float(scores.get(metric, math.nan) if isinstance(scores, Mapping) else scores)


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as JSON takes them."""
    return {str(name): _plain_value(value) for name, value in params.items()}


def _plain_value(value: Any) -> Any:
    if hasattr(value, "item") and not isinstance(value, list | dict):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain_value(one) for one in value]
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def _reason(error: BaseException) -> str:
    """Why a search failed, in one line: scikit-learn tells of fits that fail in many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("---")]
    if len(lines) > 2 and lines[0].startswith("All the"):
        return f"{lines[0]} {lines[-1]}"
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _last_line(text: str) -> str:
    lines = [line for line in str(text).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
