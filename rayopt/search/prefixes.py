"""Steps of pipelines that candidates share (same transformer, parameters and fold) are fitted once in each process.

Only what is certain to give the same again is shared: scikit-learn's own transformers whose random states are numbers.
The memory stands where a pipeline's `memory` does; what it hands out are copies, so no candidate can change another's.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

KEPT = 16  # fitted steps that are kept at most
ANY = object()
PLAIN = (str, bytes, bool, int, float, complex, type(None), type, re.Pattern)


class PrefixMemory:
    """What `Pipeline.memory` takes. `start` is to be called before each fit, with the fold that it is on."""

    def __init__(self, kept: int = KEPT) -> None:
        self.location = "this process"  # a pipeline takes a memory without a place for none at all
        self._kept = kept
        self._fitted: OrderedDict[str, tuple[Any, Any]] = OrderedDict()
        self._chain = ""
        self._next: Any = ANY

    def start(self, fold: int) -> None:
        self._chain, self._next = f"fold {fold}", ANY

    def cache(self, function: Callable[..., Any], ignore: Any = None) -> Callable[..., Any]:
        """The function that fits one step and transforms by it, as a pipeline calls it: step by step."""

        @functools.wraps(function)
        def fit_transform(transformer: Any, x: Any, y: Any, **words: Any) -> Any:
            goes_on = self._next is ANY or x is self._next  # else another fit than the fold's, such as a scorer's
            self._chain = self._extended(transformer, words) if goes_on else ""
            if not self._chain:
                return function(transformer, x, y, **words)
            out, fitted = self._kept_copy() or self._keep(x, *function(transformer, x, y, **words))
            self._next = out
            return out, fitted

        return fit_transform

    def _kept_copy(self) -> tuple[Any, Any] | None:
        if self._chain not in self._fitted:
            return None
        self._fitted.move_to_end(self._chain)
        out, fitted = self._fitted[self._chain]
        return _copied(out), copy.deepcopy(fitted)

    def _keep(self, x: Any, out: Any, fitted: Any) -> tuple[Any, Any]:
        """Keeps a copy. Rows that were only passed on are not shared: a later step may write into the fold's own."""
        if _share_memory(x, out):
            self._chain = ""
            return out, fitted
        self._fitted[self._chain] = _copied(out), copy.deepcopy(fitted)
        if len(self._fitted) > self._kept:
            self._fitted.popitem(last=False)
        return out, fitted

    def __deepcopy__(self, memo: Any) -> PrefixMemory:
        return self

    def _extended(self, transformer: Any, words: Mapping[str, Any]) -> str:
        """The name of all steps so far with this one, empty from the first on that may not be shared."""
        if not self._chain or _has_parameters(words.get("params")) or not is_deterministic(transformer):
            return ""
        try:
            content = pickle.dumps(transformer)
        except Exception:  # noqa: BLE001 - what cannot be told apart is not shared
            return ""
        return hashlib.sha256(self._chain.encode() + content).hexdigest()


def group_of(estimator: Any, parameters: Mapping[str, Any] | None = None) -> str:
    """A name for all that decides the steps before the last; empty for what is no pipeline or has a memory already."""
    from sklearn.pipeline import Pipeline

    if type(estimator) is not Pipeline or estimator.memory is not None or len(estimator.steps) < 2:
        return ""
    last = estimator.steps[-1][0]
    own = {name: value for name, value in (parameters or {}).items() if name.partition("__")[0] != last}
    return f"prefix {sorted((name, repr(value)) for name, value in own.items())}"


def is_deterministic(transformer: Any) -> bool:
    """Whether fitting it again on the same rows is certain to give the same; in doubt it is not.

    With `copy=False` a step may write into the rows that it is given, which are each fold's own.
    """
    if not _is_sklearn(type(transformer)) or not hasattr(transformer, "get_params"):
        return False
    if hasattr(transformer, "random_state") and type(transformer.random_state) is not int:
        return False
    params = transformer.get_params(deep=False)
    if any(name.startswith("copy") and not value for name, value in params.items()):
        return False
    return all(map(_is_certain, params.values()))


def _is_certain(value: Any) -> bool:
    import numpy as np

    if isinstance(value, (*PLAIN, np.generic, np.ufunc, np.dtype)):
        return True
    if isinstance(value, np.ndarray):
        return bool(value.dtype.kind != "O")
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_certain, value))
    if isinstance(value, dict):
        return all(_is_certain(one) for pair in value.items() for one in pair)
    return _is_certain_function(value) or is_deterministic(value)


def _is_certain_function(value: Any) -> bool:
    """scikit-learn's own functions, those that draw with a number as `random_state`."""
    given: dict[str, Any] = {}
    if isinstance(value, functools.partial):
        if value.args or not all(map(_is_certain, value.keywords.values())):
            return False
        value, given = value.func, value.keywords
    if not inspect.isfunction(value) or not _is_sklearn(value):
        return False
    draws = "random_state" in inspect.signature(value).parameters
    return not draws or type(given.get("random_state")) is int


def _is_sklearn(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).partition(".")[0] == "sklearn"


def _has_parameters(params: Any) -> bool:
    """Whether the step is given sample weights or other values of a row's own."""
    return any(bool(one) for one in params.values()) if params else False


def _copied(value: Any) -> Any:
    """A copy in the same layout: the order of an array in memory may decide the last bit of a sum."""
    import numpy as np

    return value.copy(order="K") if isinstance(value, np.ndarray) else copy.deepcopy(value)


def _share_memory(one: Any, other: Any) -> bool:
    import numpy as np

    first, second = _buffer(one), _buffer(other)
    return one is other or (first is not None and second is not None and bool(np.may_share_memory(first, second)))


def _buffer(value: Any) -> Any:
    """Where the numbers of an array, sparse matrix or table lie, None where nobody could write into them."""
    import numpy as np

    if hasattr(value, "nnz"):
        value = getattr(value, "data", None)
    elif hasattr(value, "to_numpy"):
        value = value.to_numpy()
    return value if isinstance(value, np.ndarray) else None
