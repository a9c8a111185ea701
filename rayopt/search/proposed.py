"""A search whose candidates somebody proposes, one after another, as one of scikit-learn's own searches.

The module is imported where a search is made, as its class is derived from scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sklearn.model_selection._search import BaseSearchCV

Params = Mapping[str, Any]
Propose = Callable[[Sequence[tuple[Params, float]], Sequence[Params]], Params | None]


class ProposedSearchCV(BaseSearchCV):  # type: ignore[misc]
    """`propose(history, pending)` gives the next candidate, None for none any more.

    history: candidates with their mean scores, more is better, in the order in which they were proposed; pending:
    those that have none yet. `parallel` candidates are evaluated at a time, `n_trials` in all.
    """

    def __init__(
        self,
        estimator: Any,
        propose: Propose,
        *,
        n_trials: int = 20,
        parallel: int = 1,
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
        self.propose, self.n_trials, self.parallel = propose, n_trials, parallel

    def _run_search(self, evaluate_candidates: Any, *, callback_ctx: Any = None) -> None:
        history: list[tuple[Params, float]] = []
        while len(history) < self.n_trials:
            pending: list[Params] = []
            while len(pending) < min(self.parallel, self.n_trials - len(history)):
                params = self.propose(history, pending)
                if params is None:
                    break
                pending.append(params)
            if not pending:
                return
            results = evaluate_candidates(pending)
            history = list(zip(results["params"], self._scores(results), strict=True))

    def _scores(self, results: Mapping[str, Any]) -> list[float]:
        names = [name for name in results if name.startswith("mean_test_")]
        wanted = f"mean_test_{self.refit}"
        return [float(one) for one in results[wanted if wanted in names else names[0]]]
