"""Searching for a model's parameters from Python: scikit-learn's exact answers, evaluated on Ray or on this machine."""

from __future__ import annotations

import inspect
from importlib.util import find_spec
from typing import Any, Literal

from rayopt.api import crew
from rayopt.errors import did_you_mean, input_error
from rayopt.search import checks, wrapped
from rayopt.search.runner import Means, Progress, Runner

BACKENDS = ("auto", "ray", "local")
Found = dict[str, Any]


class HyperparameterOptimizer:
    """`HyperparameterOptimizer(model, param_grid, cv=5).grid_search(x, y)["best_params"]`.

    model, param_grid, cv, scoring, refit, error_score, return_train_score: as GridSearchCV takes them.
    backend: `auto` begins in this process and has others join where they pay: a Ray that runs already at once, child
    processes and a Ray of its own where enough is left to do; `ray` waits for a Ray and evaluates on it alone, which
    keeps the model's code out of this process but for the refit; `local` stays on this machine, and with
    `deadline_s=None` in this process. address: a Ray cluster's.
    deadline_s: how long one evaluation may take before it is ended and scored by `error_score`.
    share_prefixes: fit the steps of pipelines that candidates share once in each process.
    confirm_large: search even a grid of more than 100,000 candidates.
    After a search, `search_` is the fitted scikit-learn object and `evaluated_` says how many cells were done where,
    `evaluated_by_` by whom.
    """

    def __init__(
        self,
        model: Any,
        param_grid: Any,
        cv: Any = 5,
        *,
        scoring: Any = None,
        refit: Any = True,
        error_score: Any = float("nan"),
        return_train_score: bool = False,
        backend: Literal["auto", "ray", "local"] = "auto",
        address: str | None = None,
        deadline_s: float | None = None,
        share_prefixes: bool = True,
        confirm_large: bool = False,
        progress: Progress | None = None,
    ) -> None:
        if backend not in BACKENDS:
            raise input_error("backend", f"unknown backend {backend!r}", did_you_mean(str(backend), BACKENDS))
        self.model, self.param_grid = model, param_grid
        self._options = {
            "cv": cv,
            "scoring": scoring,
            "refit": refit,
            "error_score": error_score,
            "return_train_score": return_train_score,
        }
        self._backend, self._address = backend, address
        self._deadline_s, self._share, self._confirmed = deadline_s, share_prefixes, confirm_large
        self._progress = progress
        self.search_: Any = None
        self.evaluated_: dict[str, int] = {}
        self.evaluated_by_: dict[str, int] = {}

    def grid_search(self, x: Any, y: Any = None, **fit_params: Any) -> Found:
        """Every point of the grid; the answers of GridSearchCV. fit_params: as its `fit` takes them, `groups` too."""
        from sklearn.model_selection import GridSearchCV

        checks.raise_if(checks.check_grid(self.param_grid, "param_grid", self._confirmed, "set confirm_large=True"))
        return self._search(GridSearchCV(self.model, self.param_grid, **self._options), x, y, fit_params)

    def random_search(
        self, x: Any, y: Any = None, *, n_iter: int = 10, random_state: int = 0, **fit_params: Any
    ) -> Found:
        """Points drawn from lists or scipy distributions; the answers of RandomizedSearchCV."""
        from sklearn.model_selection import RandomizedSearchCV

        search = RandomizedSearchCV(
            self.model, self.param_grid, n_iter=n_iter, random_state=random_state, **self._options
        )
        return self._search(search, x, y, fit_params)

    def halving_search(self, x: Any, y: Any = None, *, random_state: int = 0, **options: Any) -> Found:
        """The grid by successive halving; the answers of HalvingGridSearchCV, whose options these are.

        Whatever else is given its `fit` takes, `groups` too.
        """
        from sklearn.experimental import enable_halving_search_cv  # noqa: F401
        from sklearn.model_selection import HalvingGridSearchCV

        checks.raise_if(checks.check_grid(self.param_grid, "param_grid", self._confirmed, "set confirm_large=True"))
        known = inspect.signature(HalvingGridSearchCV).parameters
        own = {name: value for name, value in options.items() if name in known}
        search = HalvingGridSearchCV(self.model, self.param_grid, random_state=random_state, **{**self._options, **own})
        return self._search(search, x, y, {name: value for name, value in options.items() if name not in known})

    def _search(self, search: Any, x: Any, y: Any, fit_params: dict[str, Any]) -> Found:
        checks.raise_if(checks.check_names(self.model, self.param_grid, "param_grid") + checks.check_data(x, y, "y"))
        runner = Runner(self._means(), progress=self._progress)
        try:
            self.search_ = wrapped.fit(search, runner, x, y, **fit_params)
        finally:
            runner.close()
        self.evaluated_, self.evaluated_by_ = runner.evaluated, dict(runner.by)
        return {
            "best_params": getattr(search, "best_params_", None),
            "best_score": getattr(search, "best_score_", None),
            "cv_results": search.cv_results_,
        }

    def _means(self) -> Means:
        if self._backend == "local":
            return Means(deadline_s=self._deadline_s, share_prefixes=self._share, in_process=True)
        return means(self._address, self._deadline_s, self._share, ray_alone=self._backend == "ray")


def means(address: str | None, deadline_s: float | None, share_prefixes: bool, ray_alone: bool = False) -> Means:
    """Who may evaluate with a Ray at `address`: None for the one that the caller has started, else one of its own."""
    if find_spec("ray") is None:
        if ray_alone:
            raise input_error("backend", "Ray is not installed", "install ray, or take backend='local'")
        return Means(deadline_s=deadline_s, share_prefixes=share_prefixes)
    open_ray, runs = crew(address)
    return Means(open_ray, runs, ray_alone, deadline_s=deadline_s, share_prefixes=share_prefixes)
