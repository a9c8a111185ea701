"""scikit-learn's own search runs; only who evaluates its (candidate x fold) cells is exchanged.

`BaseSearchCV.fit` gives `_run_search` a function that hands all cells of a round to its local variable `parallel`, a
joblib.Parallel. For that call the variable holds another callable, which takes the same cells and returns the same
results in the same order. Splits, scores, ranks, refit and errors stay scikit-learn's.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rayopt.errors import WorkError

Evaluate = Callable[[Iterable[tuple[Any, tuple[Any, ...], dict[str, Any]]]], list[dict[str, Any]]]
VARIABLE = "parallel"


def fit(search: Any, evaluate: Evaluate, x: Any, y: Any = None, **params: Any) -> Any:
    """Fits a GridSearchCV, RandomizedSearchCV or any other BaseSearchCV, `evaluate` doing its cells; gives it back."""
    if getattr(search, "_skl_callbacks", None):
        return search.fit(x, y, **params)  # callbacks live in the process that made them
    own = search._run_search

    def run_search(evaluate_candidates: Any, *, callback_ctx: Any = None) -> None:
        takes = "callback_ctx" in inspect.signature(own).parameters
        with _exchanged(evaluate_candidates, evaluate):
            own(evaluate_candidates, **({"callback_ctx": callback_ctx} if takes else {}))

    search._run_search = run_search
    try:
        return search.fit(x, y, **params)
    finally:
        del search._run_search


@contextlib.contextmanager
def _exchanged(function: Any, value: Any) -> Iterator[None]:
    """The function with another value in its enclosing variable `parallel`."""
    names = function.__code__.co_freevars
    if VARIABLE not in names:
        import sklearn

        raise WorkError(f"scikit-learn {sklearn.__version__} evaluates its candidates in a way that is not known here")
    cell = function.__closure__[names.index(VARIABLE)]
    before, cell.cell_contents = cell.cell_contents, value
    try:
        yield
    finally:
        cell.cell_contents = before
