"""What can be wrong with a search, told before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rayopt.errors import Fault, InputError, did_you_mean

TIMES = ("fit_time", "score_time")  # what scikit-learn measures of each fold besides scores, in seconds
LARGE_COUNT = 100_000  # candidates, from which on a search is asked to be confirmed


def grids_of(grid: Any) -> list[Mapping[str, Any]]:
    """A grid as a list of grids."""
    return [grid] if isinstance(grid, Mapping) else list(grid) if isinstance(grid, Iterable) else []


def check_model(model: Any) -> list[Fault]:
    if callable(getattr(model, "get_params", None)) and not isinstance(model, type):
        return []
    return [Fault("model", f"{model!r} is no scikit-learn estimator", "give an object such as SVC()")]


def check_names(estimator: Any, grid: Any, place: str) -> list[Fault]:
    """Parameters that the estimator does not have; those of an estimator that the grid itself puts in may be any."""
    if not hasattr(estimator, "get_params"):
        problem = f"{type(estimator).__name__} is no estimator: it lacks get_params"
        return [Fault(place, problem, "give a scikit-learn estimator, or one with its methods")]
    known = list(estimator.get_params(deep=True))
    faults = []
    for one in grids_of(grid):
        for name in one if isinstance(one, Mapping) else ():
            parts = str(name).split("__")
            replaced = any("__".join(parts[:length]) in one for length in range(1, len(parts)))
            if name not in known and not replaced and not takes(estimator, str(name), one[name]):
                problem = f"{type(estimator).__name__} has no parameter {name!r}"
                alike = next((one for one in known if one.lower() == str(name).lower()), str(name))
                faults.append(Fault(place, problem, did_you_mean(alike, known)))
    return faults


def check_resource(estimator: Any, resource: str, place: str) -> list[Fault]:
    """Whether halving can give its candidates more of it."""
    known = ["n_samples", *estimator.get_params()]
    if resource in known:
        return []
    return [Fault(place, f"{type(estimator).__name__} has no parameter {resource!r}", did_you_mean(resource, known))]


def takes(estimator: Any, name: str, values: Any) -> bool:
    """Whether a parameter that `get_params` does not list can be set all the same, such as one of `**kw`."""
    from sklearn.base import clone

    first = next(iter(values), None) if isinstance(values, Sequence) else values
    try:
        clone(estimator).set_params(**{name: first})
    except Exception:  # noqa: BLE001 - any class may refuse in its own way
        return False
    return True


def check_grid(grid: Any, place: str, confirmed: bool, remedy: str) -> list[Fault]:
    """Whether there is a grid, and whether it is as large as somebody wanted it to be."""
    grids = grids_of(grid)
    faults = [
        Fault(place, f"{one!r} is no mapping of parameters to values", "write `parameter: [values]`")
        for one in grids
        if not isinstance(one, Mapping)
    ]
    if faults:
        return faults
    for one in grids:
        for name, values in one.items():
            faults += _value_faults(name, values, place)
    if faults:
        return faults
    if not grids or not any(grids):
        return [Fault(place, "the grid is empty", "give at least one parameter with its values")]
    count = sum(math.prod(map(len, one.values())) for one in grids)
    return [] if confirmed else check_count(count, place, remedy)


def _value_faults(name: str, values: Any, place: str) -> list[Fault]:
    """Whether they are what scikit-learn takes for the values of a parameter."""
    import numpy as np

    problem = f"the values of {name!r} are {values!r}"
    if isinstance(values, Mapping):
        return [Fault(place, problem, "give a list of values, or use `space:` (from Python BayesOptimizer)")]
    is_list = values.ndim == 1 if isinstance(values, np.ndarray) else isinstance(values, Sequence)
    if isinstance(values, str) or not is_list:
        return [Fault(place, problem, "give a list of values")]
    return [] if len(values) else [Fault(place, f"{name!r} has no values", "give at least one")]


def without_distributions(grid: Any) -> Any:
    """A grid in which each distribution that values are drawn from counts as one value."""
    return [
        {name: [values] if hasattr(values, "rvs") else values for name, values in one.items()}
        if isinstance(one, Mapping)
        else one
        for one in grids_of(grid)
    ]


def check_count(count: int, place: str, remedy: str) -> list[Fault]:
    if count <= LARGE_COUNT:
        return []
    return [Fault(place, f"there are {count:,} candidates, each to be fitted on every fold", remedy)]


def check_data(x: Any, y: Any, place: str) -> list[Fault]:
    """Whether every row has its target."""
    import numpy as np
    import pandas

    if y is None:
        return []
    rows, targets = _rows(x), _rows(y)
    if targets != rows:
        return [Fault(place, f"there are {rows} rows of features but {targets} targets", "make them match")]
    try:
        array = np.asarray(y.data if hasattr(y, "nnz") else y)
    except ValueError:  # sequences of labels that are not equally long
        return []
    missing = int(np.sum(pandas.isna(array)))
    if missing:
        return [Fault(place, f"{missing} of {rows} targets are missing (NaN)", "drop those rows")]
    return []


def _rows(array: Any) -> int:
    """Sparse matrices have no length."""
    return int(array.shape[0]) if hasattr(array, "shape") else len(array)


def raise_if(faults: Sequence[Fault]) -> None:
    if faults:
        raise InputError(faults)


def metric_names(scoring: str | Sequence[str] | None) -> list[str]:
    """What the metrics of a job's `scoring` are called; one of the user's own, among several, by its function."""
    if scoring is None:
        return ["score"]
    return [scoring] if isinstance(scoring, str) else [name.rpartition(":")[2] for name in scoring]
