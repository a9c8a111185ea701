"""A search of an estimator's parameters, checked, with its estimator and data."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from rayopt.errors import input_error
from rayopt.records import digest
from rayopt.search.checks import TIMES, metric_names
from rayopt.search.goals import Aim
from rayopt.search.history import COLD, WarmStart
from rayopt.search.rows import Rows
from rayopt.searching.proposing import aim_of
from rayopt.tasks import versions


@dataclass(frozen=True)
class Search:
    """A checked search job with its estimator and data; x `(rows, features)`, y `(rows,)`."""

    job: dict[str, Any]
    estimator: Any
    x: Any
    y: Any
    cv: Any
    scoring: Any
    code: str
    folder: str
    rows: Rows = field(default_factory=Rows)
    warm: WarmStart = COLD

    @cached_property
    def aim(self) -> Aim:
        """What decides; where the job says nothing of it, scikit-learn's own ranks."""
        return aim_of({**self.job, "objective": self.job["objective"] or self.metric})

    @property
    def has_aim(self) -> bool:
        """Whether the job names objectives or bounds, which scikit-learn's ranks know nothing of."""
        return bool(self.job["objective"] or self.job["constraints"])

    @cached_property
    def data_sha256(self) -> str:
        total = hashlib.sha256()
        for array in (self.x, self.y, *self.rows.arrays()):
            array = np.ascontiguousarray(array if array.dtype.kind != "O" else array.astype(str))
            total.update(f"{array.shape} {array.dtype.str}".encode() + array.tobytes())
        return total.hexdigest()

    @cached_property
    def hash(self) -> str:
        return digest([self.job, self.code, self.data_sha256])

    @property
    def context(self) -> str:
        """All that decides a cell's result but its parameters and rows."""
        names = (
            "estimator",
            "scoring",
            "error_score",
            "return_train_score",
            "seed",
            "test",
            "data",
            "groups",
            "sample_weight",
        )
        return digest([{name: self.job[name] for name in names}, self.code, self.data_sha256, versions()])

    @property
    def metric(self) -> str:
        """The name of what decides: of a metric, of seconds, or `score` where there is one metric without a name."""
        given = self.job["objective"]
        if given:
            return given if isinstance(given, str) else str(given[0]["metric"])
        if isinstance(self.scoring, dict):
            return str(self.job["refit"]) if isinstance(self.job["refit"], str) else next(iter(self.scoring))
        return metric_names(self.job["scoring"])[0]

    @property
    def refit(self) -> bool | str:
        """As scikit-learn takes it, which wants the name of the metric even where a list has but one."""
        given: bool | str = self.job["refit"]
        return self.metric if given is True and isinstance(self.scoring, dict) else given

    def column(self, kind: str, metric: str) -> str:
        """Where scikit-learn's results have the `mean` or `std` of a metric over the folds."""
        if metric in TIMES:
            return f"{kind}_{metric}"
        return f"{kind}_test_{metric if isinstance(self.scoring, dict) else 'score'}"

    def split(self) -> tuple[Any, Any]:
        """Which rows take part, and which are the test's (None for none); raises InputError."""
        if not self.job["test"]:
            return slice(None), None
        try:
            taken, test = self._taken_and_test()
        except ValueError as error:
            raise input_error("test", f"cannot be split off: {error}", "give another share, or none") from error
        return taken, test

    def _taken_and_test(self) -> Any:
        """Those of a group stay together, else classes are in both in the same shares."""
        from sklearn.base import is_classifier
        from sklearn.model_selection import GroupShuffleSplit, train_test_split

        seed, share, groups = self.job["seed"], self.job["test"], self.rows.groups
        if groups is not None:
            return next(GroupShuffleSplit(1, test_size=share, random_state=seed).split(self.x, groups=groups))
        by_class = self.y if is_classifier(self.estimator) else None
        return train_test_split(np.arange(len(self.y)), test_size=share, random_state=seed, stratify=by_class)

    def plan(self) -> dict[str, Any]:
        data = {"sha256": self.data_sha256, "shape": list(self.x.shape[1:]), "rows": {"all": len(self.x)}}
        return {"job": self.job, "metric": self.metric, "data": data, "estimator": repr(self.estimator)}
