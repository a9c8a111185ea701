"""Steps that candidates share are fitted once, and only those that are certain to come out the same."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, f_classif, mutual_info_classif
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, QuantileTransformer, StandardScaler

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
