"""BayesOptimizer: the best parameters of a scikit-learn estimator by cross-validation, in this process."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rayopt.errors import Fault, InputError, WorkError, did_you_mean
from rayopt.runs.hidden import redact
from rayopt.search.asking import Asking
from rayopt.search.history import History, Observation, observed
from rayopt.search.parameters import plain
from rayopt.search.space import Params, Space
from rayopt.search.stopping import Stop
from rayopt.search.suggest import Problem, suggest

MAX_REASON = 300


class BayesOptimizer:
    """Finds parameters of `model` that give the best cross-validated score.

    `param_bounds` names parameters of the estimator (`step__name` inside a pipeline): `(low, high)`, or any form that
    `Space.from_settings` reads. Bounds that are whole numbers are an integer range, unless the estimator's own value
    is a float. As in bayes_opt, `n_iter` counts the iterations after `init_points`: 50 means 55 evaluations.

    `history` keeps every evaluation, failed ones with their reason. With `journal` it is written to that file as well,
    and a search whose journal is there goes on where it ended.
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
        stop: Stop | None = None,
        journal: Path | str | None = None,
    ) -> None:
        faults = _count_faults(n_iter, init_points, random_state) + _name_faults(model, param_bounds)
        if faults:
            raise InputError(faults)
        self.model = model
        self.space = Space.from_settings(
            {name: _as_whole(model, name, written) for name, written in param_bounds.items()},
            lambda location: ".".join(("param_bounds", *location)),
        )
        self.n_iter = n_iter
        self.init_points = init_points
        self.cv = cv
        self.scoring = scoring
        self.random_state = random_state
        self.stop = stop or Stop()
        self.stopped = ""
        self.history = History(Path(journal) if journal else None)
        self._goes_on = journal is not None

    def optimize(self, X: Any, y: Any = None) -> dict[str, Any]:
        """`target`, the best mean score over the folds (accuracy for a classifier), and `params`, which give it.

        A point whose fit or score fails is learnt from. Raises WorkError when every point failed.
        """
        if not self._goes_on:
            self.history = History()
        problem = Problem(initial_count=self.init_points)

        def propose(seen: Sequence[Observation], pending: Sequence[Params]) -> Params | None:
            return suggest(self.space, seen, pending, self.random_state, problem)

        asking = Asking(propose, self.history, self.init_points + self.n_iter, self.stop)
        while (point := asking.ask()) is not None:
            asking.tell(self._evaluate(point, X, y))
        self.stopped = asking.over
        best = self.history.best
        if best is None:
            reasons = [one.reason for one in self.history.observations]
            raise WorkError(
                f"all {len(reasons)} evaluations failed; the last one: {reasons[-1] if reasons else 'none'}"
            )
        return {"target": best.value, "params": dict(best.params)}

    def _evaluate(self, params: Params, X: Any, y: Any) -> Observation:
        from sklearn.base import clone
        from sklearn.model_selection import cross_val_score

        start = time.monotonic()
        try:
            model = clone(self.model).set_params(**params)
            with _quiet():
                scores = cross_val_score(model, X, y, cv=self.cv, scoring=self.scoring, error_score="raise")
        except Exception as error:  # noqa: BLE001 (an estimator may raise anything)
            reason = redact(f"{type(error).__name__}: {error}")[:MAX_REASON]
            return Observation(params, None, reason, time.monotonic() - start)
        return observed(params, scores.mean(), time.monotonic() - start)


def _count_faults(n_iter: Any, init_points: Any, random_state: Any) -> list[Fault]:
    wanted = {"n_iter": (n_iter, 0), "init_points": (init_points, 1), "random_state": (random_state, 0)}
    return [
        Fault(name, f"{value!r} is no whole number from {least}", "give a larger whole number")
        for name, (value, least) in wanted.items()
        if isinstance(value, bool) or not isinstance(plain(value), int) or value < least
    ]


def _name_faults(model: Any, param_bounds: Any) -> list[Fault]:
    if not callable(getattr(model, "get_params", None)) or isinstance(model, type):
        return [Fault("model", f"{model!r} is no scikit-learn estimator", "give an object such as SVC()")]
    if not isinstance(param_bounds, Mapping):
        return [Fault("param_bounds", f"{param_bounds!r} is no mapping", 'write {"C": (0.1, 10)}')]
    known = list(model.get_params())
    return [
        Fault(
            f"param_bounds.{name}", f"{type(model).__name__} has no parameter {name!r}", did_you_mean(str(name), known)
        )
        for name in param_bounds
        if name not in known
    ]


def _as_whole(model: Any, name: str, written: Any) -> Any:
    """A pair of whole bounds as a range of whole numbers, where the estimator does not say that it wants floats."""
    whole = isinstance(written, tuple) and len(written) == 2 and all(type(plain(one)) is int for one in written)
    return (*written, int) if whole and not isinstance(model.get_params()[name], float) else written


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that extreme parameters give by the hundred, such as that of convergence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
