"""Estimators and scorers of a user's own, which fail, hang or die as they are told to."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.naive_bayes import GaussianNB


class AnyWords(ClassifierMixin, BaseEstimator):
    """Takes whatever parameters its model takes; lists those that were given."""

    def __init__(self, **words: Any) -> None:
        self.words = dict(words)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return dict(self.words)

    def set_params(self, **words: Any) -> AnyWords:
        self.words.update(words)
        return self

    def fit(self, X: Any, y: Any) -> AnyWords:
        self.classes_ = np.unique(y)
        self.model_ = GaussianNB(**self.words).fit(X, y)
        return self

    def predict(self, X: Any) -> Any:
        return self.model_.predict(X)


class Nearest(ClassifierMixin, BaseEstimator):
    """Classifies by the nearest class mean; `how` says what goes wrong where `strength` is `at`."""

    def __init__(self, strength: float = 1.0, how: str = "", at: float = 0.0, marks: str = "") -> None:
        self.strength, self.how, self.at, self.marks = strength, how, at, marks

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Nearest:
        if self.how and self.strength == self.at:
            self._go_wrong()
        self.classes_ = np.unique(y)
        self.means_ = np.stack([np.average(X[y == one], axis=0) for one in self.classes_]) * self.strength
        return self

    def predict(self, X: Any) -> Any:
        distances = ((X[:, None] - self.means_) ** 2).sum(axis=2)
        return self.classes_[distances.argmin(axis=1)]

    def _go_wrong(self) -> None:
        if self.how == "raise":
            raise ValueError("cannot be fitted")
        if self.how == "hang":
            time.sleep(600)
        if self.how == "wait":
            until = time.monotonic() + 300
            while not Path(self.marks).exists() and time.monotonic() < until:
                time.sleep(0.01)
        if self.how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "die once":
            mark = Path(self.marks) / f"{self.strength}"
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)


class Locked(ClassifierMixin, BaseEstimator):
    """Cannot be pickled."""

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength
        self.lock = threading.Lock()

    def fit(self, X: Any, y: Any) -> Locked:
        return self

    def score(self, X: Any, y: Any) -> float:
        return 0.0


class Counting(TransformerMixin, BaseEstimator):
    """Notes in a file that it was fitted."""

    def __init__(self, path: str = "") -> None:
        self.path = path

    def fit(self, X: Any, y: Any = None) -> Counting:
        with Path(self.path).open("a") as file:
            file.write("fit\n")
        return self

    def transform(self, X: Any) -> Any:
        return X


def sometimes(estimator: Any, X: Any, y: Any) -> float:
    """A scorer that raises on folds whose first feature is small."""
    if X[:, 0].max() < 3:
        raise RuntimeError("no score")
    return float(estimator.score(X, y))


def two_scores(estimator: Any, X: Any, y: Any) -> dict[str, float]:
    return {"hits": float(estimator.score(X, y)), "rows": float(len(y))}


def no_number(estimator: Any, X: Any, y: Any) -> str:
    return "much"
