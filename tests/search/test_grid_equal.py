"""scikit-learn's own answers, to the last bit: scores, ranks, order, best parameters, warnings and errors."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas
import pytest
from scipy.sparse import csr_matrix
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_classification, make_regression
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import SelectKBest, f_classif, mutual_info_classif
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    LeaveOneGroupOut,
    PredefinedSplit,
    RandomizedSearchCV,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
)
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from rayopt.search import wrapped
from rayopt.search.runner import Means, Runner
from tests.search.estimators import Nearest, no_number, sometimes, two_scores

IN_PROCESS = Means(in_process=True)
X, Y = make_classification(90, 6, n_informative=4, n_classes=3, random_state=0)
XR, YR = make_regression(80, 5, noise=3.0, random_state=1)
NAMES = np.array(["cat", "dog", "eel"])[Y]
GROUPS = np.arange(90) // 10
WEIGHTS = np.linspace(0.1, 2, 90)
FRAME = pandas.DataFrame(X, columns=list("abcdef"))
MUTUAL = functools.partial(mutual_info_classif, random_state=0)
PIPE = make_pipeline(StandardScaler(), SelectKBest(f_classif), SVC())
TABLE = Pipeline(
    [
        ("columns", ColumnTransformer([("scale", StandardScaler(), ["a", "b"]), ("as is", "passthrough", ["c"])])),
        ("tree", DecisionTreeClassifier(random_state=0)),
    ]
)
GRID = GridSearchCV
TREES = {"max_depth": [1, 3], "min_samples_leaf": [1, 5]}
NB = {"var_smoothing": [1e-9, 1e-2, 1.0]}
C = {"C": [0.1, 1.0]}

CASES: dict[str, tuple[Callable[[], Any], tuple[Any, Any], dict[str, Any]]] = {
    "knn": (lambda: GRID(KNeighborsClassifier(), {"n_neighbors": [1, 5], "p": [1, 2]}), (X, Y), {}),
    "svc": (lambda: GRID(SVC(), {**C, "gamma": ["scale", 0.1]}, cv=3), (X, Y), {}),
    "svc auc": (lambda: GRID(SVC(probability=False), C, cv=3, scoring="roc_auc"), (X, Y == 1), {}),
    "linear svc": (lambda: GRID(LinearSVC(random_state=0), C, cv=KFold(4)), (X, Y), {}),
    "logistic, log loss": (lambda: GRID(LogisticRegression(max_iter=500), C, cv=3, scoring="neg_log_loss"), (X, Y), {}),
    "forest": (lambda: GRID(RandomForestClassifier(5, random_state=3), TREES, cv=3), (X, Y), {}),
    "sgd": (lambda: GRID(SGDClassifier(random_state=0), {"alpha": [1e-3, 1e-1]}, cv=3), (X, Y), {}),
    "random state object": (
        lambda: GRID(DecisionTreeClassifier(random_state=np.random.RandomState(4)), TREES, cv=3), (X, Y), {},
    ),
    "bayes, weights": (lambda: GRID(GaussianNB(), NB, cv=3), (X, Y), {"sample_weight": WEIGHTS}),
    "ridge": (lambda: GRID(Ridge(), {"alpha": [0.1, 1, 10]}, scoring="r2"), (XR, YR), {}),
    "regressors, error": (
        lambda: GRID(KNeighborsRegressor(), {"n_neighbors": [1, 3]}, scoring="neg_mean_squared_error"), (XR, YR), {},
    ),
    "two targets": (lambda: GRID(DecisionTreeRegressor(random_state=0), TREES, cv=3), (XR, np.c_[YR, -YR]), {}),
    "train scores": (lambda: GRID(GaussianNB(), NB, cv=3, return_train_score=True), (X, Y), {}),
    "text labels": (lambda: GRID(SVC(), C, cv=3, scoring="f1_macro"), (X, NAMES), {}),
    "series of labels": (lambda: GRID(SVC(), C, cv=3), (FRAME, pandas.Series(NAMES, index=range(5, 95))), {}),
    "sparse": (lambda: GRID(MultinomialNB(), {"alpha": [0.1, 1]}, cv=3), (csr_matrix(np.abs(X)), Y), {}),
    "lists": (lambda: GRID(GaussianNB(), NB, cv=3), (X.tolist(), Y.tolist()), {}),
    "table": (lambda: GRID(TABLE, {"tree__max_depth": [2, 4]}, cv=3), (FRAME, Y), {}),
    "groups": (lambda: GRID(GaussianNB(), NB, cv=GroupKFold(3)), (X, Y), {"groups": GROUPS}),
    "one group out": (lambda: GRID(GaussianNB(), NB, cv=LeaveOneGroupOut()), (X, Y), {"groups": GROUPS}),
    "repeated": (lambda: GRID(GaussianNB(), NB, cv=RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=1)),
                 (X, Y), {}),
    "shuffled": (lambda: GRID(GaussianNB(), NB, cv=ShuffleSplit(3, random_state=2)), (X, Y), {}),
    "time series": (lambda: GRID(Ridge(), {"alpha": [0.1, 1]}, cv=TimeSeriesSplit(3)), (XR, YR), {}),
    "predefined": (lambda: GRID(GaussianNB(), NB, cv=PredefinedSplit(np.arange(90) % 4 - 1)), (X, Y), {}),
    "splits as a list": (lambda: GRID(GaussianNB(), NB, cv=list(StratifiedKFold(3).split(X, Y))), (X, Y), {}),
    "several metrics": (
        lambda: GRID(SVC(), C, cv=3, scoring=["accuracy", "f1_macro"], refit="f1_macro"), (X, Y), {},
    ),
    "metrics by name": (
        lambda: GRID(SVC(), C, cv=3, scoring={"f": make_scorer(f1_score, average="micro"), "a": "accuracy"}, refit="a"),
        (X, Y), {},
    ),
    "metrics of a function": (lambda: GRID(GaussianNB(), NB, cv=3, scoring=two_scores, refit="hits"), (X, Y), {}),
    "no refit": (lambda: GRID(GaussianNB(), NB, cv=3, refit=False), (X, Y), {}),
    "refit by a function": (lambda: GRID(GaussianNB(), NB, cv=3, refit=lambda found: 1), (X, Y), {}),
    "list of grids": (lambda: GRID(SVC(), [C, {"kernel": ["linear"], "C": [2, 3]}], cv=3), (X, Y), {}),
    "estimators in the grid": (
        lambda: GRID(Pipeline([("one", None), ("two", SVC())]),
                     [{"one": [StandardScaler(), MinMaxScaler()], "two__C": [1, 2]}, {"two": [GaussianNB()]}], cv=3),
        (X, Y), {},
    ),
    "pipeline": (lambda: GRID(PIPE, {"selectkbest__k": [2, 4], "svc__C": [0.1, 1, 10]}), (X, Y), {}),
    "costly pipeline": (
        lambda: GRID(make_pipeline(StandardScaler(), SelectKBest(MUTUAL, k=3), SVC()), {"svc__C": [0.1, 1]}, cv=3),
        (X, Y), {},
    ),
    "weights within a pipeline": (
        lambda: GRID(make_pipeline(StandardScaler(), SVC()), {"svc__C": [0.1, 1]}, cv=3), (X, Y),
        {"svc__sample_weight": WEIGHTS, "standardscaler__sample_weight": WEIGHTS},
    ),
    "regression pipeline": (
        lambda: GRID(make_pipeline(PolynomialFeatures(), Ridge()),
                     {"polynomialfeatures__degree": [1, 2], "ridge__alpha": [0.1, 1]}, cv=3),
        (XR, YR), {},
    ),
    "fits that fail": (lambda: GRID(Nearest(how="raise", at=2.0), {"strength": [1.0, 2.0, 3.0]}, cv=3), (X, Y), {}),
    "fits that fail, score 0": (
        lambda: GRID(SVC(), {"C": [1.0, -1.0]}, cv=3, error_score=0, return_train_score=True), (X, Y), {},
    ),
    "fits that fail, several metrics": (
        lambda: GRID(SVC(), {"C": [1.0, -1.0]}, cv=3, scoring=["accuracy", "f1_macro"], refit="accuracy"), (X, Y), {},
    ),
    "a score that raises": (lambda: GRID(GaussianNB(), NB, cv=4, scoring=sometimes), (X, Y), {}),
    "scores that tie": (lambda: GRID(DummyClassifier(), {"strategy": ["prior", "most_frequent"]}), (X, Y), {}),
    "random": (lambda: RandomizedSearchCV(SVC(), {"C": np.logspace(-2, 2, 50)}, n_iter=4, random_state=5), (X, Y), {}),
    "halving": (
        lambda: HalvingGridSearchCV(SVC(), {"C": [0.1, 1, 3, 10, 30, 100]}, random_state=0, min_resources=40, cv=3),
        (X, Y), {},
    ),
    "halving of trees": (
        lambda: HalvingGridSearchCV(RandomForestClassifier(random_state=0), TREES, resource="n_estimators",
                                    max_resources=9, min_resources=2, random_state=0, cv=3),
        (X, Y), {},
    ),
}  # fmt: skip


def outcome(search: Any, run: Callable[[], Any]) -> tuple[Any, dict[str, Any], list[str]]:
    """Best candidate, all results but the times, and the warnings (without traces, which name the callers)."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run()
    found = {name: one for name, one in search.cv_results_.items() if "_time" not in name}
    told = sorted(str(one.message).partition("Below are")[0].partition("Details")[0] for one in said)
    return [getattr(search, name, None) for name in ("best_params_", "best_index_", "best_score_")], found, told


def plain(value: Any) -> str:
    """A value as text, every digit of its numbers, without the addresses of objects."""
    return re.sub(r" at 0x[0-9A-Fa-f]+", "", repr(value))


def assert_equal(search: Any, other: Any, got: Any, expected: Any) -> None:
    (best, found, told), (true_best, true_found, true_told) = got, expected
    assert plain(best) == plain(true_best)
    assert list(found) == list(true_found)
    for name, values in true_found.items():
        assert plain(list(found[name])) == plain(list(values)), name
        assert getattr(found[name], "dtype", None) == getattr(values, "dtype", None)
    assert told == true_told
    assert plain(getattr(search, "best_estimator_", None)) == plain(getattr(other, "best_estimator_", None))


@pytest.mark.parametrize("name", CASES)
def test_the_answers_are_scikit_learns(name: str) -> None:
    make, (x, y), more = CASES[name]
    search, other = make(), make()
    runner = Runner(IN_PROCESS)
    got = outcome(search, lambda: wrapped.fit(search, runner, x, y, **more))
    expected = outcome(other, lambda: other.fit(x, y, **more))
    assert_equal(search, other, got, expected)
    assert runner.evaluated["here"] > 0
    assert "_run_search" not in vars(search)


def test_there_are_cases_enough() -> None:
    assert len(CASES) >= 30


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: GRID(SVC(), {"C": [1.0, -1.0]}, cv=3, error_score="raise"), ValueError),
        (lambda: GRID(SVC(), {"C": [-2.0, -1.0]}, cv=3), ValueError),
        (lambda: GRID(GaussianNB(), NB, cv=3, scoring=no_number), ValueError),
        (lambda: GRID(GaussianNB(), NB, cv=4, scoring=sometimes, error_score="raise"), RuntimeError),
    ],
)
def test_the_errors_are_scikit_learns(make: Callable[[], Any], error: type[Exception]) -> None:
    with pytest.raises(error) as ours:
        wrapped.fit(make(), Runner(IN_PROCESS), X, Y)
    with pytest.raises(error) as theirs:
        make().fit(X, Y)
    assert str(ours.value).splitlines()[:2] == str(theirs.value).splitlines()[:2]
