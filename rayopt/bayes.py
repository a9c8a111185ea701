"""BayesOptimizer: the best parameters of a scikit-learn estimator by cross-validation, on Ray or on this machine."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rayopt.errors import Fault, WorkError, did_you_mean
from rayopt.search import about, checks, wrapped
from rayopt.search.asking import Asking
from rayopt.search.goals import Goal
from rayopt.search.history import COLD, History, Observation, WarmStart, warm_start
from rayopt.search.parameters import plain
from rayopt.search.runner import Progress, Runner
from rayopt.search.space import Params, Space
from rayopt.search.stopping import Stop
from rayopt.search.suggest import Problem, suggest
from rayopt.search.warmth import journal_at
from rayopt.spec import Document, validate
from rayopt.tuner import Found, Where, stored

if TYPE_CHECKING:
    from rayopt.search.proposed import Candidates

SCORE = "score"
MAX_REASON = 300


class BayesOptimizer:
    """Finds parameters of `model` that give the best cross-validated score.

    `param_bounds` names parameters of the estimator (`step__name` inside a pipeline): `(low, high)`, or any form that
    `Space.from_settings` reads. Bounds that are whole numbers are an integer range, unless the estimator's own value
    is a float. As in bayes_opt, `n_iter` counts the iterations after `init_points`: 50 means 55 evaluations.

    parallel: candidates in flight at a time. One alone has its folds evaluated side by side, and a seed gives the same
    search on any machine; with several it depends on which of them ends first.
    backend, address, deadline_s, cache: as HyperparameterOptimizer takes them.
    warm_start: the journal, or run folder, of an earlier search, which is learnt from.

    `history` has every evaluation, failed ones with their reason. With `journal` it is written to that file as well,
    and a search whose journal is there goes on where it ended; a journal of another model, space, metric, splitter or
    other data is refused. `evaluated_` says how many folds were evaluated where.
    """

    def __init__(
        self,
        model: Any,
        param_bounds: Mapping[str, Any],
        n_iter: int = 50,
        *,
        init_points: int = 5,
        cv: Any = 5,
        scoring: Any = None,
        random_state: int = 42,
        stop: Stop | Mapping[str, Any] | None = None,
        journal: Path | str | None = None,
        parallel: int = 1,
        backend: Literal["auto", "ray", "local"] = "auto",
        address: str | None = None,
        deadline_s: float | None = None,
        warm_start: Path | str | None = None,
        cache: Path | str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._where = Where(backend, address, deadline_s)
        faults = _count_faults(n_iter=(n_iter, 0), init_points=(init_points, 1), random_state=(random_state, 0))
        faults += _count_faults(parallel=(parallel, 1)) + _name_faults(model, param_bounds) + self._where.faults()
        if not (scoring is None or isinstance(scoring, str) or callable(scoring)):
            faults.append(Fault("scoring", f"{scoring!r} is not one metric", "give its name, or a scorer"))
        checks.raise_if(faults)
        self.model = model
        self.space = Space.from_settings(
            {name: _as_whole(model, name, written) for name, written in param_bounds.items()},
            lambda location: ".".join(("param_bounds", *location)),
        )
        self.n_iter, self.init_points, self.parallel = n_iter, init_points, parallel
        self.cv, self.scoring, self.random_state = cv, scoring, random_state
        self.stop = _stop(stop)
        self.stopped = ""
        self.history = History(Path(journal) if journal else None, self.space)
        self.evaluated_: dict[str, int] = {}
        self._goes_on, self._cache, self._progress = journal is not None, cache, progress
        self._warm = _warmed(warm_start, self.space)

    def optimize(self, X: Any, y: Any = None, **fit_params: Any) -> Found:
        """`target`, the best mean score over the folds (accuracy for a classifier), and `params`, which give it.

        fit_params: as GridSearchCV's `fit` takes them, `groups` and `sample_weight` too. A point whose fit or score
        fails is learnt from. Raises WorkError when every point failed.
        """
        from rayopt.search.proposed import Candidates

        checks.raise_if(checks.check_data(X, y, "y"))
        if self._goes_on:
            wanted = about.about(self.model, self.space, self.scoring, self.cv, (X, y, fit_params))
            about.begin(self.history, wanted, self.space)
        else:
            self.history = History()
        asking = self._asking()
        candidates = Candidates(asking, self.parallel, Goal(metric=SCORE), SCORE, again=False)
        if candidates.first():
            self._evaluate(candidates, X, y, fit_params)
        self.stopped = asking.over
        best = self.history.best
        if best is None:
            raise self._nothing() if self.history.observations else asking.nothing()
        return {"target": best.value, "params": dict(best.params)}

    def _asking(self) -> Asking:
        problem = Problem(initial_count=self.init_points)

        def propose(seen: Sequence[Observation], pending: Sequence[Params]) -> Params | None:
            return suggest(self.space, seen, pending, self.random_state, problem)

        count = self.init_points + self.n_iter
        return Asking(propose, self.history, count, self.stop, earlier=self._warm.observations)

    def _evaluate(self, candidates: Candidates, X: Any, y: Any, fit_params: dict[str, Any]) -> None:
        """All candidates, with their folds evaluated by whom it pays to call."""
        from rayopt.search.proposed import Flown, ProposedSearchCV

        store = stored(self._cache, self.model, {"scoring": self.scoring}, (X, y, fit_params))
        search = ProposedSearchCV(self.model, candidates, scoring=self.scoring, cv=self.cv, refit=False)
        runner = Runner(self._where.means(), store, self._progress, candidates)
        try:
            with _quiet():
                wrapped.fit(search, Flown(runner, candidates), X, y, **fit_params)
        except ValueError as error:  # scikit-learn's own, where all fits have failed
            if self.history.best is None and self.history.observations:
                raise self._nothing() from error
            raise
        finally:
            runner.close()
            self.evaluated_ = runner.evaluated

    def _nothing(self) -> WorkError:
        reasons = [one.reason for one in self.history.observations]
        return WorkError(f"all {len(reasons)} evaluations failed; the last one: {reasons[-1][:MAX_REASON]}")


def _warmed(given: Path | str | None, space: Space) -> WarmStart:
    """What an earlier search gives; raises InputError where it has no journal."""
    return COLD if given is None else warm_start(space, History(journal_at([Path(given)], "warm_start")).observations)


def _stop(given: Any) -> Stop:
    """Raises InputError for what is no rule to stop by."""
    if isinstance(given, Stop):
        return given
    found, faults = validate(Stop, {} if given is None else given, Document({}, "stop", Path()))
    checks.raise_if(faults)
    return found or Stop()


def _count_faults(**wanted: tuple[Any, int]) -> list[Fault]:
    return [
        Fault(name, f"{value!r} is no whole number from {least}", "give a larger whole number")
        for name, (value, least) in wanted.items()
        if isinstance(value, bool) or not isinstance(plain(value), int) or value < least
    ]


def _name_faults(model: Any, param_bounds: Any) -> list[Fault]:
    if faults := checks.check_model(model):
        return faults
    if not isinstance(param_bounds, Mapping):
        return [Fault("param_bounds", f"{param_bounds!r} is no mapping", 'write {"C": (0.1, 10)}')]
    known = list(model.get_params())
    return [
        Fault(
            f"param_bounds.{name}", f"{type(model).__name__} has no parameter {name!r}", did_you_mean(str(name), known)
        )
        for name, written in param_bounds.items()
        if name not in known and not checks.takes(model, str(name), written)
    ]


def _as_whole(model: Any, name: str, written: Any) -> Any:
    """A pair of whole bounds as a range of whole numbers, where the estimator does not say that it wants floats."""
    whole = isinstance(written, tuple) and len(written) == 2 and all(type(plain(one)) is int for one in written)
    return (*written, int) if whole and not isinstance(model.get_params().get(name), float) else written


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that extreme parameters give by the hundred, such as that of convergence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
