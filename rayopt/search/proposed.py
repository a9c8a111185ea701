"""A search whose candidates a strategy proposes, several in flight, as one of scikit-learn's own searches.

The first round that scikit-learn hands out does not end before everything is evaluated: it grows as results come. It is
then broken off, and all that was evaluated handed out as the next one and answered from memory, so that results, refit
and what is said of fits that failed are scikit-learn's own.
The module is imported where a search is made, as its class is derived from scikit-learn's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sklearn.model_selection._search import BaseSearchCV

from rayopt.errors import input_error
from rayopt.search.asking import Asking
from rayopt.search.cells import Cell, Result, error_of, mean, quantity, scikit_learns
from rayopt.search.checks import TIMES
from rayopt.search.goals import Goal
from rayopt.search.history import Observation, observed
from rayopt.search.parameters import key_of
from rayopt.search.runner import Growth

Params = Mapping[str, Any]
Call = tuple[Any, tuple[Any, ...], dict[str, Any]]


class Candidates(Growth):
    """Asks for a candidate whenever another one has the scores of all its folds.

    goal: what decides; name: of the score, where there is one that has no name of its own. again: what was evaluated
    before is handed out too, for its results.
    """

    def __init__(self, asking: Asking, parallel: int, goal: Goal, name: str, again: bool = True) -> None:
        self.asking, self._parallel, self._goal, self._name = asking, parallel, goal, name
        known = [one.params for one in asking.observations]
        self.all: list[Params] = list(known) if again else []
        self._told = {key_of(params) for params in known}
        self._flying = 0
        self._results: dict[str, dict[int, Result]] = {}
        self._folds = 0

    def first(self) -> list[Params]:
        """What was evaluated before, where it is wanted, and as many candidates as are to be in flight."""
        while self._flying < self._parallel and self._ask():
            pass
        return list(self.all)

    def begin(self, folds: int) -> None:
        self._folds = folds

    def after(self, cell: Cell, result: Result) -> Sequence[Params]:
        key = key_of(cell.parameters)
        folds = self._results.setdefault(key, {})
        folds[cell.fold] = result
        if len(folds) < self._folds or key in self._told:
            return ()
        self._told.add(key)
        self._flying -= 1
        self.asking.tell(self._observation(cell.parameters, [folds[fold] for fold in sorted(folds)]))
        return self.all[-1:] if self._ask() else ()

    def to_come(self) -> int:
        return max(0, self.asking.count - len(self._told) - self._flying)

    def answer(self, params: Params, fold: int) -> Result:
        """The result of a candidate that is done."""
        return self._results[key_of(params)][fold]

    def knows(self, params: Params, fold: int) -> bool:
        return fold in self._results.get(key_of(params), {})

    def _ask(self) -> bool:
        params = self.asking.ask()
        if params is not None:
            self.all.append(params)
            self._flying += 1
        return params is not None

    def _observation(self, params: Params, results: Sequence[Result]) -> Observation:
        scores = results[0]["test_scores"]
        names = list(scores) if isinstance(scores, Mapping) else [self._name]
        means = {name: mean(quantity(one, name) for one in results) for name in (*names, *TIMES)}
        if self._goal.metric not in means:
            problem = f"gives {', '.join(names)} where one score decides"
            raise input_error("scoring", problem, "take a scorer that gives one number")
        cost_s = sum(one["fit_time"] + one["score_time"] for one in results)
        found = observed(params, self._goal.sign * means[self._goal.metric], cost_s, means)
        reason = next(filter(None, map(error_of, results)), "")
        return Observation(params, None, reason, cost_s, found.metrics) if found.failed and reason else found


class Flown:
    """Stands where `runner` stands: what the candidates know is answered from there."""

    def __init__(self, runner: Callable[[Iterable[Call]], list[Result]], candidates: Candidates) -> None:
        self._runner, self._candidates = runner, candidates

    def __call__(self, calls: Iterable[Call]) -> list[Result]:
        calls = list(calls)
        asked = [(words["parameters"], int(words["split_progress"][0])) for _, _, words in calls]
        if calls and all(self._candidates.knows(*one) for one in asked):
            return [scikit_learns(self._candidates.answer(*one)) for one in asked]
        self._candidates.begin(1 + max((fold for _, fold in asked), default=-1))
        self._runner(calls)
        raise _EvaluatedError


class _EvaluatedError(Exception):
    """Breaks a round off, of whose candidates more is known than scikit-learn has asked."""


class ProposedSearchCV(BaseSearchCV):  # type: ignore[misc]
    """Fitted by `wrapped.fit` with a Flown of the same candidates, whose runner has them as its growth."""

    def __init__(
        self,
        estimator: Any,
        candidates: Candidates,
        *,
        scoring: Any = None,
        refit: Any = True,
        cv: Any = None,
        error_score: Any = float("nan"),
        return_train_score: bool = False,
    ) -> None:
        super().__init__(
            estimator,
            scoring=scoring,
            refit=refit,
            cv=cv,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.candidates = candidates

    def _run_search(self, evaluate_candidates: Any, *, callback_ctx: Any = None) -> None:
        first = self.candidates.first()
        if not first:
            raise self.candidates.asking.nothing()
        with contextlib.suppress(_EvaluatedError):
            evaluate_candidates(first)
        evaluate_candidates(list(self.candidates.all))
