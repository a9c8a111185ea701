"""What a search is told of each row besides features and target: its group, for the splitter, and its weight."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayopt.data.columns import beside
from rayopt.data.settings import DataSettings
from rayopt.errors import Fault
from rayopt.spec import Document

Array = np.ndarray[Any, Any]
FIELDS = ("groups", "sample_weight")


@dataclass(frozen=True)
class Rows:
    """Groups and weights, each `(rows,)`, None where there are none."""

    groups: Array | None = None
    weights: Array | None = None

    def arrays(self) -> list[Array]:
        return [one for one in (self.groups, self.weights) if one is not None]

    def at(self, rows: Any) -> Rows:
        """Those of some rows, by their numbers or a slice."""
        return Rows(*(None if one is None else one[rows] for one in (self.groups, self.weights)))

    def fit_params(self, estimator: Any) -> dict[str, Any]:
        """As `fit` of scikit-learn's searches takes them; in a pipeline the weights are for the last step."""
        params = {} if self.groups is None else {"groups": self.groups}
        return params if self.weights is None else params | {_weight_name(estimator): self.weights}


def rows_of(job: Any, document: Document) -> tuple[DataSettings, Rows]:
    """What the job names, and the settings of its data without it. Raises InputError."""
    places = {name: document.place((field,)) for field in FIELDS if (name := getattr(job, field))}
    settings, found = beside(job.rows, document.folder, places)
    return settings, Rows(*(found[name] if (name := getattr(job, field)) else None for field in FIELDS))


def check_rows(rows: Rows, count: int, document: Document) -> list[Fault]:
    faults = []
    for field, values in zip(FIELDS, (rows.groups, rows.weights), strict=True):
        if values is not None and values.shape != (count,):
            problem = f"has the shape {values.shape} where there are {count} rows"
            faults.append(document.fault((field,), problem, "give one value for each row"))
    weights = rows.weights
    if weights is not None and (weights.dtype.kind not in "fiub" or not np.isfinite(weights).all()):
        faults.append(document.fault(("sample_weight",), "is not a finite number everywhere", "mend those rows"))
    return faults


def check_use(rows: Rows, estimator: Any, cv: Any, document: Document) -> list[Fault]:
    """Whether the splitter wants groups and has them, and whether the estimator takes weights."""
    from sklearn.model_selection._split import GroupsConsumerMixin
    from sklearn.utils.validation import has_fit_parameter

    faults = []
    if isinstance(cv, GroupsConsumerMixin) and rows.groups is None:
        problem = f"{type(cv).__name__} splits by groups, and the job names none"
        faults.append(document.fault(("cv",), problem, "add `groups:` with a column of the data"))
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    if rows.weights is not None and not has_fit_parameter(last, "sample_weight"):
        problem = f"{type(last).__name__} takes no weights"
        faults.append(document.fault(("sample_weight",), problem, "leave it out, or take another estimator"))
    return faults


def check_folds(folds: int, estimator: Any, y: Any, document: Document) -> list[Fault]:
    """Whether so many can be made, as scikit-learn makes them."""
    from sklearn.base import is_classifier
    from sklearn.model_selection import check_cv

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the search itself tells of small classes
            next(check_cv(folds, y, classifier=is_classifier(estimator)).split(np.zeros(len(y)), y))
    except ValueError as error:
        return [document.fault(("cv",), f"cannot be made: {str(error).rstrip('.')}", "give fewer folds")]
    return []


def _weight_name(estimator: Any) -> str:
    return f"{estimator.steps[-1][0]}__sample_weight" if hasattr(estimator, "steps") else "sample_weight"
