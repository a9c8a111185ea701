"""Steps that candidates share are fitted once, and only those that are certain to come out the same."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import numpy as np
import pandas
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import SelectKBest, f_classif, mutual_info_classif
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, QuantileTransformer, StandardScaler
from sklearn.svm import SVC

from rayopt.search import wrapped
from rayopt.search.prefixes import PrefixMemory, group_of, is_deterministic
from rayopt.search.runner import Means, Runner

X = np.random.default_rng(0).normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int)


class Own(TransformerMixin, BaseEstimator):
    def fit(self, X: Any, y: Any = None) -> Own:
        return self

    def transform(self, X: Any) -> Any:
        return X


@pytest.mark.parametrize(
    ("transformer", "certain"),
    [
        (StandardScaler(), True),
        (SelectKBest(f_classif, k=2), True),
        (SelectKBest(mutual_info_classif), False),
        (SelectKBest(partial(mutual_info_classif, random_state=0)), True),
        (SelectKBest(partial(mutual_info_classif, random_state=None)), False),
        (SelectKBest(lambda x, y: x.sum(axis=0)), False),
        (PCA(2), False),
        (PCA(2, random_state=0), True),
        (PCA(2, random_state=np.random.RandomState(0)), False),
        (QuantileTransformer(), False),
        (FunctionTransformer(np.log1p), True),
        (FunctionTransformer(lambda x: x), False),
        (Own(), False),
        (make_pipeline(StandardScaler(), Own()), False),
        (make_pipeline(StandardScaler(), PCA(1, random_state=1)), True),
        ("passthrough", False),
        (MinMaxScaler(copy=False), False),
        (KMeans(2, random_state=0, copy_x=False), False),
        (make_pipeline(StandardScaler(copy=False), PCA(1, random_state=1)), False),
    ],
    ids=lambda one: re.sub(" at 0x[0-9a-fA-F]+", "", str(one)),
)
def test_only_what_is_certain_is_shared(transformer: Any, certain: bool) -> None:
    assert is_deterministic(transformer) is certain


def fits_of(monkeypatch: pytest.MonkeyPatch, pipeline: Any, grid: Any, share: bool = True) -> int:
    """How often the scaler of a pipeline is fitted during a search of three folds without refit."""
    count = 0
    own = StandardScaler.fit

    def fit(self: Any, *args: Any, **words: Any) -> Any:
        nonlocal count
        count += 1
        return own(self, *args, **words)

    monkeypatch.setattr(StandardScaler, "fit", fit)
    search = GridSearchCV(pipeline, grid, cv=3, refit=False)
    wrapped.fit(search, Runner(Means(in_process=True, share_prefixes=share)), X, Y)
    return count


def test_a_shared_step_is_fitted_once_a_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = make_pipeline(StandardScaler(), SelectKBest(f_classif), GaussianNB())
    grid = {"selectkbest__k": [1, 2], "gaussiannb__var_smoothing": [1e-9, 0.1]}
    assert fits_of(monkeypatch, pipeline, grid) == 3
    assert fits_of(monkeypatch, pipeline, grid, share=False) == 12


def test_other_parameters_are_another_step(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = make_pipeline(StandardScaler(), GaussianNB())
    grid = {"standardscaler__with_mean": [True, False], "gaussiannb__var_smoothing": [1e-9, 0.1, 1]}
    assert fits_of(monkeypatch, pipeline, grid) == 6


def test_nothing_after_a_step_that_may_not_be_shared_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = make_pipeline(Own(), StandardScaler(), GaussianNB())
    assert fits_of(monkeypatch, pipeline, {"gaussiannb__var_smoothing": [1e-9, 0.1]}) == 6


def test_what_is_shared_cannot_be_changed_by_one_who_has_it() -> None:
    memory = PrefixMemory()

    def fit_transform(transformer: Any, x: Any, y: Any) -> Any:
        return transformer.fit_transform(x, y), transformer

    shared = memory.cache(fit_transform)
    memory.start(0)
    first, fitted = shared(StandardScaler(), X, Y)
    expected = first.copy()
    first[:] = 0
    fitted.mean_[:] = 7
    memory.start(0)
    again, other = shared(StandardScaler(), X, Y)
    assert np.array_equal(again, expected)
    assert np.array_equal(other.mean_, StandardScaler().fit(X).mean_)
    memory.start(1)
    assert not np.array_equal(shared(StandardScaler(), X[:30], Y[:30])[0].shape, again.shape)


def scores_of(search: Any) -> dict[str, list[float]]:
    names = [name for name in search.cv_results_ if name.startswith("split") and "score" in name]
    return {name: search.cv_results_[name].tolist() for name in names}


def check_scores(make: Any, x: Any = X, y: Any = Y) -> None:
    """A search gives the scores of scikit-learn's own, to the bit; each is given rows that it may write into."""
    ours = wrapped.fit(make(), Runner(Means(in_process=True)), x.copy(), y)
    assert scores_of(ours) == scores_of(make().fit(x.copy(), y))


HOLES = np.where(np.random.default_rng(1).random(X.shape) < 0.2, np.nan, X)


@pytest.mark.parametrize(
    ("steps", "x"),
    [
        ((MinMaxScaler(copy=False),), X),
        ((SimpleImputer(copy=False, add_indicator=True),), HOLES),
        ((FunctionTransformer(), StandardScaler(copy=False)), 3 * X + 1),
        ((FunctionTransformer(), StandardScaler(copy=False)), sparse.csr_matrix(3 * X + 1)),
        ((FunctionTransformer(), StandardScaler(copy=False)), pandas.DataFrame(3 * X + 1)),
        ((MinMaxScaler(), FunctionTransformer(), StandardScaler(copy=False)), X),
    ],
    ids=["scaler", "imputer", "passed on", "sparse", "table", "passed on later"],
)
def test_steps_that_write_into_their_rows_score_as_in_scikit_learn(steps: Any, x: Any) -> None:
    if sparse.issparse(x):
        steps = steps[0], steps[1].set_params(with_mean=False)
    grid = {"svc__C": [0.1, 1, 10]}
    check_scores(lambda: GridSearchCV(make_pipeline(*steps, SVC()), grid, cv=3, return_train_score=True), x)


def test_halving_with_a_step_that_writes_into_its_rows() -> None:
    pipeline = make_pipeline(StandardScaler(copy=False), SVC())
    check_scores(
        lambda: HalvingGridSearchCV(pipeline, {"svc__C": [0.1, 1, 10]}, cv=3, random_state=0, min_resources=20)
    )


@pytest.mark.parametrize("y", [Y, None], ids=["targets", "no targets"])
def test_a_scorer_that_fits_again_is_given_its_own_rows(y: Any) -> None:
    def again(estimator: Any, x: Any, y: Any = None) -> float:
        rows = np.random.default_rng(round(estimator[-1].tol * 10_000)).integers(len(x), size=len(x))
        fitted = clone(estimator).fit(x[rows], None if y is None else y[rows])
        return float(fitted[0].mean_.sum() + fitted[-1].n_features_in_)

    last = KMeans(2, random_state=0) if y is None else SVC()
    name = type(last).__name__.lower()
    grid = {f"{name}__tol": [1e-4, 2e-4, 3e-4]}
    check_scores(
        lambda: GridSearchCV(
            make_pipeline(StandardScaler(), last), grid, cv=3, scoring=again, return_train_score=True, refit=False
        ),
        y=y,
    )


def test_no_more_is_kept_than_there_is_room_for() -> None:
    memory = PrefixMemory(kept=2)
    shared = memory.cache(lambda transformer, x, y: (transformer.fit_transform(x), transformer))
    for fold in range(5):
        memory.start(fold)
        shared(StandardScaler(), X, Y)
    assert len(memory._fitted) == 2


def test_a_pipeline_with_a_memory_of_its_own_is_left_alone(tmp_path: Any) -> None:
    assert group_of(make_pipeline(StandardScaler(), GaussianNB(), memory=str(tmp_path))) == ""
    assert group_of(GaussianNB()) == ""
    pipeline = make_pipeline(StandardScaler(), GaussianNB())
    one = group_of(pipeline, {"gaussiannb__var_smoothing": 1})
    assert one == group_of(pipeline, {"gaussiannb__var_smoothing": 2}) != ""
    assert one != group_of(pipeline, {"standardscaler__with_mean": False})
