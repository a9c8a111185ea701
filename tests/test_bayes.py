"""BayesOptimizer on scikit-learn's estimators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import rayopt
from rayopt.errors import InputError, WorkError
from rayopt.search.stopping import Stop
from tests.search.estimators import Nearest

X, y = load_iris(return_X_y=True)


def test_it_gives_target_and_params_and_leaves_the_model_alone() -> None:
    model = SVC()
    optimizer = rayopt.BayesOptimizer(
        model, {"C": (0.01, 10), "gamma": {"low": 1e-4, "high": 10, "log": True}}, n_iter=3
    )
    found = optimizer.optimize(X, y)
    assert set(found) == {"target", "params"}
    assert len(optimizer.history.observations) == 8
    assert found["target"] == pytest.approx(cross_val_score(SVC(**found["params"]), X, y, cv=5).mean())
    assert found["target"] == max(one.value or 0 for one in optimizer.history.observations)
    assert model.get_params()["C"] == 1.0


def test_the_same_seed_gives_the_same_search() -> None:
    runs = [rayopt.BayesOptimizer(SVC(), {"C": (0.01, 10)}, n_iter=2) for _ in range(2)]
    assert runs[0].optimize(X, y) == runs[1].optimize(X, y)
    points = [[one.params for one in run.history.observations] for run in runs]
    assert points[0] == points[1]


def test_whole_bounds_are_whole_numbers_unless_the_estimator_has_a_float() -> None:
    optimizer = rayopt.BayesOptimizer(DecisionTreeClassifier(random_state=0), {"max_depth": (1, 5)}, n_iter=1)
    optimizer.optimize(X, y)
    assert all(isinstance(one.params["max_depth"], int) for one in optimizer.history.observations)
    assert not any(one.failed for one in optimizer.history.observations)
    assert optimizer.stopped == "every point has been tried"
    assert not rayopt.BayesOptimizer(SVC(), {"C": (1, 5)}).space.discrete.any()


def test_fits_that_fail_are_learnt_from() -> None:
    bounds = {"solver": ["lbfgs", "liblinear"], "l1_ratio": [0.0, 1.0], "C": (0.1, 10)}
    optimizer = rayopt.BayesOptimizer(LogisticRegression(max_iter=50), bounds, n_iter=8)
    found = optimizer.optimize(X[:100], y[:100])
    failed = [one for one in optimizer.history.observations if one.failed]
    assert failed
    assert all("l1" in one.reason for one in failed)
    assert found["target"] > 0.9


def test_that_all_fits_fail_is_said() -> None:
    with pytest.raises(WorkError, match="all 5 evaluations failed; the last one: ValueError"):
        rayopt.BayesOptimizer(SVC(), {"C": (0.1, 1.0)}, n_iter=0).optimize(np.full((20, 2), np.nan), np.arange(20) % 2)


def test_a_journal_goes_on_where_it_ended(tmp_path: Path) -> None:
    whole = rayopt.BayesOptimizer(SVC(), {"C": (0.01, 10)}, n_iter=3)
    whole.optimize(X, y)
    path = tmp_path / "search.jsonl"
    rayopt.BayesOptimizer(SVC(), {"C": (0.01, 10)}, n_iter=1, journal=path).optimize(X, y)
    path.write_bytes(path.read_bytes()[:-5])  # as if it had been killed
    rest = rayopt.BayesOptimizer(SVC(), {"C": (0.01, 10)}, n_iter=3, journal=path)
    rest.optimize(X, y)
    assert [one.params for one in rest.history.observations] == [one.params for one in whole.history.observations]


def test_a_journal_that_is_complete_evaluates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    first = rayopt.BayesOptimizer(SVC(), {"C": (0.01, 10)}, n_iter=1, journal=path)
    found = first.optimize(X, y)
    again = rayopt.BayesOptimizer(SVC(), {"C": (0.01, 10)}, n_iter=1, journal=path)
    assert again.optimize(X, y) == found
    assert (sum(first.evaluated_.values()), again.evaluated_) == (30, {})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bounds": {"C": (0.01, 0.02)}}, "another space;"),
        ({"bounds": {"kernel": ["rbf", "poly"]}}, "another space;"),
        ({"model": SVC(gamma=0.1)}, "another model;"),
        ({"model": DecisionTreeClassifier(), "bounds": {"max_depth": (1, 5)}}, "another model, another space;"),
        ({"scoring": "f1_macro"}, "another scoring;"),
        ({"cv": 3}, "another cv;"),
        ({"targets": np.roll(y, 1)}, "another data;"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_journal_of_another_search_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"

    def search(bounds: Any = None, model: Any = None, targets: Any = y, **words: Any) -> Any:
        bounds = bounds or {"C": (0.01, 10)}
        words = {"n_iter": 0, "init_points": 1, "journal": path, **words}
        return rayopt.BayesOptimizer(model or SVC(), bounds, **words).optimize(X, targets)

    found = search()
    assert search(random_state=7) == found
    before = path.read_bytes()
    with pytest.raises(InputError, match=f"^journal: is of a search with {said} .*warm_start"):
        search(**change)
    assert path.read_bytes() == before
    assert search() == found


def test_a_journal_that_does_not_say_what_it_is_of_may_be_of_the_same_search(tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    found = rayopt.BayesOptimizer(SVC(), {"C": (0.01, 10)}, n_iter=0, journal=path).optimize(X, y)
    path.write_text("".join(line for line in path.read_text().splitlines(True) if '"began"' not in line))
    with pytest.raises(InputError, match="journal: has a point that is none of this space: unknown parameter 'C'"):
        rayopt.BayesOptimizer(SVC(), {"gamma": (0.01, 10.0)}, n_iter=0, journal=path).optimize(X, y)
    again = rayopt.BayesOptimizer(SVC(), {"C": (0.01, 10)}, n_iter=0, journal=path)
    assert again.optimize(X, y) == found
    assert again.evaluated_ == {}
    assert '"began"' in path.read_text()


def test_who_evaluates_decides_nothing_of_a_search_with_one_candidate_in_flight() -> None:
    """With a deadline all is done by child processes."""
    here = rayopt.BayesOptimizer(SVC(), {"C": (0.01, 10)}, n_iter=2, backend="local")
    there = rayopt.BayesOptimizer(SVC(), {"C": (0.01, 10)}, n_iter=2, backend="local", deadline_s=600)
    assert here.optimize(X, y) == there.optimize(X, y)
    assert here.evaluated_["here"] == there.evaluated_["crews"] == 35
    pairs = [[(one.params, one.value) for one in each.history.observations] for each in (here, there)]
    assert pairs[0] == pairs[1]


def test_one_that_hangs_is_ended_and_learnt_around() -> None:
    bounds = {"how": ["", "hang"], "strength": [0.0, 1.0]}
    optimizer = rayopt.BayesOptimizer(Nearest(), bounds, n_iter=0, init_points=4, cv=2, deadline_s=2.0)
    found = optimizer.optimize(X, y)
    late = [one for one in optimizer.history.observations if one.failed]
    assert [one.params for one in late] == [{"how": "hang", "strength": 0.0}]
    assert late[0].reason == "the evaluation took longer than 2 s"
    assert found["params"]["strength"] == 1.0


def test_several_in_flight_with_groups_and_weights() -> None:
    groups, weights = np.arange(150) % 7, np.where(y == 2, 0.0, 1.0)
    optimizer = rayopt.BayesOptimizer(SVC(), {"C": (0.01, 10)}, n_iter=3, parallel=3, cv=GroupKFold(3))
    found = optimizer.optimize(X, y, groups=groups, sample_weight=weights)
    grid = {"C": [found["params"]["C"]]}
    expected = GridSearchCV(SVC(), grid, cv=GroupKFold(3)).fit(X, y, groups=groups, sample_weight=weights)
    assert found["target"] == pytest.approx(expected.best_score_)
    assert found["target"] == 1.0, "rows of no weight do not count"
    assert len(optimizer.history.observations) == 8


def test_it_starts_warm(tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    rayopt.BayesOptimizer(SVC(), {"C": (0.01, 10)}, n_iter=3, journal=path).optimize(X, y)
    warm = rayopt.BayesOptimizer(SVC(), {"C": (0.01, 10)}, n_iter=0, init_points=1, warm_start=path)
    cold = rayopt.BayesOptimizer(SVC(), {"C": (0.01, 10)}, n_iter=0, init_points=1)
    warm.optimize(X, y)
    cold.optimize(X, y)
    assert len(warm.history.observations) == 1
    assert warm.history.observations[0].params != cold.history.observations[0].params
    with pytest.raises(InputError, match=r"warm_start: .*nowhere holds no observations"):
        rayopt.BayesOptimizer(SVC(), {"C": (0.01, 10)}, warm_start=tmp_path / "nowhere")


def test_a_warm_start_with_every_point_leaves_nothing_to_evaluate(tmp_path: Path) -> None:
    path, bounds = tmp_path / "search.jsonl", {"kernel": ["rbf", "linear"]}
    rayopt.BayesOptimizer(SVC(), bounds, n_iter=1, init_points=1, journal=path).optimize(X, y)
    with pytest.raises(InputError, match=r"^warm_start: has every point of this space; leave it out, or widen"):
        rayopt.BayesOptimizer(SVC(), bounds, warm_start=path).optimize(X, y)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (y[:-1], "y: there are 150 rows of features but 149 targets"),
        (np.where(y == 0, np.nan, y), "y: 50 of 150 targets are missing"),
    ],
)
def test_wrong_data_is_told_before_anything_is_evaluated(targets: np.ndarray, message: str) -> None:
    optimizer = rayopt.BayesOptimizer(SVC(), {"C": (0.01, 10)})
    with pytest.raises(InputError, match=message):
        optimizer.optimize(X, targets)
    assert not optimizer.history.observations


def test_rules_to_stop_by_may_be_a_mapping() -> None:
    assert rayopt.BayesOptimizer(SVC(), {"C": (0.1, 1)}, stop={"patience": 3}).stop == Stop(patience=3)
    with pytest.raises(InputError, match=r"stop.*unknown key 'patiense'; did you mean 'patience'"):
        rayopt.BayesOptimizer(SVC(), {"C": (0.1, 1)}, stop={"patiense": 3})
    with pytest.raises(InputError, match=r"stop.*patience: .*greater than or equal to 1"):
        rayopt.BayesOptimizer(SVC(), {"C": (0.1, 1)}, stop={"patience": 0})
    with pytest.raises(InputError, match=r"stop"):
        rayopt.BayesOptimizer(SVC(), {"C": (0.1, 1)}, stop=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_scorer_of_several_scores_is_refused(parallel: int) -> None:
    def two(estimator: Any, x: Any, y: Any) -> dict[str, float]:
        return {"a": estimator.score(x, y), "b": 1.0}

    search = rayopt.BayesOptimizer(SVC(), {"C": (0.1, 1)}, scoring=two, parallel=parallel, backend="local")
    with pytest.raises(InputError, match=r"^scoring: gives a, b where one score decides"):
        search.optimize(X, y)


def test_scores_whose_sum_no_number_holds_have_failed() -> None:
    search = rayopt.BayesOptimizer(SVC(), {"C": (0.1, 1)}, n_iter=0, scoring=lambda *given: -1e308, backend="local")
    with pytest.raises(WorkError, match="all 5 evaluations failed; the last one: the value is -inf"):
        search.optimize(X, y)


def test_it_stops_when_it_is_good_enough() -> None:
    optimizer = rayopt.BayesOptimizer(SVC(), {"C": (0.5, 10)}, stop=Stop(target=0.5))
    optimizer.optimize(X, y)
    assert optimizer.stopped == "the target 0.5 is reached"
    assert len(optimizer.history.observations) == 1


@pytest.mark.parametrize(
    ("model", "bounds", "n_iter", "message"),
    [
        (SVC(), {"gama": (0, 1)}, 5, "param_bounds.gama: SVC has no parameter 'gama'; did you mean 'gamma'?"),
        (SVC(), {"C": (5, 1)}, 5, "param_bounds.C: low 5 is not below high 1"),
        (SVC(), {}, 5, "param_bounds: names no parameter"),
        (SVC(), {"C": (0, 1)}, -1, "n_iter: -1 is no whole number from 0"),
        (SVC(), {"C": (0, 1)}, True, "n_iter: True is no whole number from 0"),
        (SVC(), {"C": (1, 10**400)}, 5, "is no finite number"),
        (SVC, {"C": (0, 1)}, 5, "is no scikit-learn estimator"),
        ("svc", {"C": (0, 1)}, 5, "'svc' is no scikit-learn estimator"),
    ],
)
def test_what_is_wrong_is_said(model: object, bounds: dict[str, object], n_iter: int, message: str) -> None:
    with pytest.raises(InputError) as caught:
        rayopt.BayesOptimizer(model, bounds, n_iter=n_iter)
    assert message in str(caught.value)
