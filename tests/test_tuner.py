"""What is kept of a search from Python: a driver that is killed loses and repeats nothing that was finished."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC

from rayopt import BayesOptimizer, HyperparameterOptimizer, InputError

X = np.random.default_rng(0).normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int)
GRID = {"var_smoothing": [1e-9, 0.1, 1.0]}

DRIVER = """
import sys
from pathlib import Path
import numpy
from sklearn.naive_bayes import GaussianNB
from rayopt import BayesOptimizer, HyperparameterOptimizer
from rayopt.search.runner import Progress

FITS = Path(sys.argv[1]) / "fits"

class Noted(GaussianNB):
    def fit(self, X, y):
        with FITS.open("a") as file:
            file.write(f"{self.var_smoothing!r} {X[0, 0]!r}\\n")
        return super().fit(X, y)

class Told(Progress):
    def cell_ended(self, cell, result, cached, left_s):
        print("cached" if cached else "done", flush=True)
        if not cached and sys.argv[3] == "slowly":
            sys.stdin.readline()

if __name__ == "__main__":
    x = numpy.random.default_rng(0).normal(size=(60, 4))
    common = {"cv": 2, "cache": Path(sys.argv[1]) / "cache", "progress": Told(), "backend": "local"}
    if sys.argv[2] == "grid":
        grid = {"var_smoothing": [10.0**-power for power in range(6)]}
        found = HyperparameterOptimizer(Noted(), grid, refit=False, **common).grid_search(x, x[:, 0] > 0)
        print(found["best_params"], found["best_score"])
    else:
        bounds = {"var_smoothing": {"low": 1e-9, "high": 1.0, "log": True}}
        print(BayesOptimizer(Noted(), bounds, n_iter=1, **common).optimize(x, x[:, 0] > 0))
"""


@pytest.mark.parametrize("what", ["grid", "bayes"])
def test_a_killed_driver_loses_and_repeats_nothing(what: str, tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)

    def command(folder: str, how: str) -> list[str]:
        (tmp_path / folder).mkdir(exist_ok=True)
        return [sys.executable, str(tmp_path / "driver.py"), str(tmp_path / folder), what, how]

    killed = subprocess.Popen(command("killed", "slowly"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert killed.stdin is not None
    assert killed.stdout is not None
    for _ in range(5):
        assert killed.stdout.readline() == b"done\n"
        killed.stdin.write(b"\n")
        killed.stdin.flush()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stdin.close()
    killed.stdout.close()
    again, whole = (
        subprocess.run(command(folder, "at once"), capture_output=True, text=True, check=True).stdout.splitlines()
        for folder in ("killed", "whole")
    )
    assert again[-1] == whole[-1]
    assert again[:5] == ["cached"] * 5
    assert len(again) == len(whole) == 13
    fits = Counter((tmp_path / "killed" / "fits").read_text().splitlines())
    assert sum(fits.values()) <= 13, "only what was under way was begun again"
    assert sorted(fits) == sorted((tmp_path / "whole" / "fits").read_text().splitlines())


def searched(cache: Path, model: Any = None, x: Any = X, **options: Any) -> dict[str, int]:
    given = {"param_grid": GRID, "cv": 2, "backend": "local", "cache": cache, **options}
    optimizer = HyperparameterOptimizer(model or GaussianNB(), **given)
    optimizer.grid_search(x, Y)
    return optimizer.evaluated_


def test_what_is_kept_is_told_apart_by_all_that_decides_it(tmp_path: Path) -> None:
    assert searched(tmp_path)["cached"] == 0
    assert searched(tmp_path)["cached"] == 6
    assert searched(tmp_path, param_grid={"var_smoothing": [1e-9, 0.5]})["cached"] == 2
    assert searched(tmp_path, cv=3)["cached"] == 0
    assert searched(tmp_path, scoring="f1")["cached"] == 0
    assert searched(tmp_path, x=X + 1)["cached"] == 0
    assert searched(tmp_path, GaussianNB(priors=[0.4, 0.6]))["cached"] == 0


def test_parameters_whose_words_are_alike_are_told_apart(tmp_path: Path) -> None:
    """numpy shows the beginning and the end of what is long."""
    priors = [np.ones(1502) / 1502 for _ in range(2)]
    priors[1][700:702] *= [1.5, 0.5]
    assert repr(priors[0]) == repr(priors[1])
    x, y = np.arange(3004.0)[:, None], np.arange(3004) % 1502
    grids = [{"priors": [one]} for one in priors]
    counts = []
    for grid in grids:
        optimizer = HyperparameterOptimizer(GaussianNB(), grid, cv=2, backend="local", cache=tmp_path, refit=False)
        optimizer.grid_search(x, y)
        counts.append(optimizer.evaluated_["cached"])
    assert counts == [0, 0]


def test_what_has_no_content_to_tell_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"scoring: cannot be told from others by its content"):
        searched(tmp_path, scoring=lambda model, x, y: 0.0)
    with pytest.raises(InputError, match=r"scoring: .*leave `cache` out"):
        BayesOptimizer(SVC(), {"C": (0.1, 1)}, scoring=lambda model, x, y: 0.0, cache=tmp_path).optimize(X, Y)


@pytest.mark.parametrize(("grid", "message"), [({}, "the grid is empty"), ({"var_smoothing": []}, "has no values")])
def test_nothing_to_draw_from_is_said(grid: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        HyperparameterOptimizer(GaussianNB(), grid, backend="local").random_search(X, Y)


@pytest.mark.parametrize(
    ("values", "remedy"),
    [({"low": 1, "high": 2}, "or use `space:`"), (np.ones((2, 2)), "a list"), (np.array(1.0), "a list"), (3, "a list")],
    ids=["range", "table", "scalar", "number"],
)
def test_values_that_are_no_list_are_refused(values: Any, remedy: str) -> None:
    with pytest.raises(InputError, match=f"param_grid: the values of 'var_smoothing' are (?s:.*); give .*{remedy}"):
        HyperparameterOptimizer(GaussianNB(), {"var_smoothing": values}, backend="local").grid_search(X, Y)


def test_a_class_is_no_model() -> None:
    with pytest.raises(InputError, match=r"model: .*SVC.* is no scikit-learn estimator; give an object"):
        HyperparameterOptimizer(SVC, {"C": [1]})


def test_a_distribution_is_drawn_from() -> None:
    from scipy.stats import loguniform

    optimizer = HyperparameterOptimizer(GaussianNB(), {"var_smoothing": loguniform(1e-9, 1)}, cv=2, backend="local")
    assert 1e-9 <= optimizer.random_search(X, Y, n_iter=2)["best_params"]["var_smoothing"] <= 1
