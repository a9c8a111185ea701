"""Searching for a model's parameters from Python: scikit-learn's exact answers, evaluated on Ray or on this machine."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from rayopt.api import crew
from rayopt.errors import Fault, did_you_mean, input_error
from rayopt.records import digest
from rayopt.runs.cache import Cache
from rayopt.search import checks, wrapped
from rayopt.search.content import code_of, hash_of
from rayopt.search.runner import Means, Progress, Runner
from rayopt.search.store import CachedCells
from rayopt.tasks import versions

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
    cache: a folder where every evaluation is kept as it ends: a search that was broken off, or whose grid has grown,
    does only what is new. Kept by the content of the data, the model and its code.
    share_prefixes: fit the steps of pipelines that candidates share once in each process.
    confirm_large: search even a grid of more than 100,000 candidates.
    Every evaluation computes with one thread: the answers are scikit-learn's own, to the bit, where that does so too;
    with more threads the last digits of some estimators differ, such as KMeans'. What draws from numpy's global state
    (`random_state=None`) draws in another order.
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
        cache: str | Path | None = None,
        share_prefixes: bool = True,
        confirm_large: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self._where = Where(backend, address, deadline_s, share_prefixes)
        checks.raise_if(self._where.faults() + checks.check_model(model))
        self.model, self.param_grid = model, param_grid
        self._options = {
            "cv": cv,
            "scoring": scoring,
            "refit": refit,
            "error_score": error_score,
            "return_train_score": return_train_score,
        }
        self._confirmed, self._cache, self._progress = confirm_large, cache, progress
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

        checks.raise_if(checks.check_grid(checks.without_distributions(self.param_grid), "param_grid", True, ""))
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
        decides = {name: self._options[name] for name in ("scoring", "error_score", "return_train_score")}
        store = stored(self._cache, self.model, decides, (x, y, fit_params), self.param_grid)
        runner = Runner(self._where.means(), store, self._progress)
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


@dataclass(frozen=True)
class Where:
    """Where evaluations are done, as the arguments of these names say."""

    backend: str = "auto"
    address: str | None = None
    deadline_s: float | None = None
    share_prefixes: bool = True

    def faults(self) -> list[Fault]:
        if self.backend in BACKENDS:
            return []
        remedy = did_you_mean(str(self.backend), BACKENDS)
        return [Fault("backend", f"unknown backend {self.backend!r}", remedy)]

    def means(self) -> Means:
        """Who may evaluate; at the address None by a Ray that the caller has started, else one of its own."""
        alone = self.backend == "ray"
        common: dict[str, Any] = {"deadline_s": self.deadline_s, "share_prefixes": self.share_prefixes}
        if self.backend == "local":
            return Means(in_process=True, **common)
        if find_spec("ray") is None:
            if alone:
                raise input_error("backend", "Ray is not installed", "install ray, or take backend='local'")
            return Means(**common)
        return Means(*crew(self.address), alone, **common)


def stored(
    cache: str | Path | None, model: Any, decides: Mapping[str, Any], data: Any, values: Any = None
) -> CachedCells | None:
    """Where results are kept, by all that decides them but the parameters and rows; `values` may put in further code.

    Raises InputError for what cannot be told from others by its content.
    """
    if cache is None:
        return None
    from sklearn import get_config

    parts = {"model": model, **decides, "data": data, "config": get_config()}
    hashes = {name: hash_of(part, name) for name, part in parts.items()}
    code = code_of((model, dict(decides), values), "model, scoring or param_grid")
    return CachedCells(Cache(cache), digest([hashes, code, versions()]))
