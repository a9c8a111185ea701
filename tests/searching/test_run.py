"""What is odd about parameters, estimators or scores costs a line of the summary, never the summary."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from rayopt import api, load_estimator
from rayopt.errors import InputError, WorkError
from rayopt.report.search import headline
from rayopt.search import saved


def run(job: Path, out: Path, **words: Any) -> dict[str, Any]:
    return api.run(job, out, address="inprocess", **words)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "outcomes.jsonl").read_text().splitlines()]


def test_values_of_a_grid_may_be_mappings(
    search: Callable[..., Path],
    points: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = points[0], np.where(points[1] > 0, "yes", "no")
    grid: dict[str, Any] = {"class_weight": [{"yes": 1, "no": 40}, "balanced", {"yes": 1, "no": 2}], "C": [0.1, 1.0]}
    job = search(grid=grid, data={"source": "rows.csv", "target": "y"})
    pandas.DataFrame(x).assign(y=y).to_csv(job.parent / "rows.csv", index=False)
    summary = run(job, tmp_path / "out")
    expected = GridSearchCV(SVC(random_state=0), grid, cv=3).fit(x, y)
    assert summary["best_params"] == expected.best_params_
    assert summary["importance"].keys() == grid.keys()
    made = json.loads((tmp_path / "out" / summary["path"] / "estimator.json").read_text())
    assert made["params"] == expected.best_params_
    monkeypatch.setattr(saved, "is_installed", lambda: False)
    again = load_estimator(tmp_path / "out", job.parent)
    assert again.get_params() == expected.best_estimator_.get_params()
    assert run(job, tmp_path / "out")["best_params"] == expected.best_params_


def test_equal_numbers_of_different_types_are_one_value(search: Callable[..., Path], tmp_path: Path) -> None:
    summary = run(search(grid={"C": [1, 1.0, 0.01, 100]}), tmp_path / "out")
    assert summary["importance"] == {"C": 1.0}
    assert len(summary["trials"]) == 4


def test_that_importance_cannot_be_told_costs_no_search(
    search: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any) -> None:
        raise KeyError("C")

    monkeypatch.setattr("rayopt.searching.run.importance_of_grid", broken)
    assert run(search(), tmp_path / "out")["importance"] == {}
    assert "the importance of the parameters cannot be told: KeyError" in (tmp_path / "out" / "log.txt").read_text()


def test_what_cannot_be_written_is_a_reason(
    search: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any, **words: Any) -> bytes:
        raise TypeError("no such column")

    monkeypatch.setattr("pandas.DataFrame.to_parquet", broken)
    with pytest.raises(WorkError, match="no such column"):
        run(search(), tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["status"], summary["reason"]) == ("failed", "TypeError: no such column")
    assert len(summary["trials"]) == 3


def test_an_estimator_may_predict_nothing(search: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("skops")
    job = search(estimator="sklearn.neighbors:KernelDensity", grid={"bandwidth": [0.5, 1.0]}, test=0.2)
    summary = run(job, tmp_path / "out")
    assert summary["status"] == "done"
    assert (tmp_path / "out" / summary["path"] / "estimator.skops").is_file()
    assert load_estimator(tmp_path / "out").bandwidth == summary["best_params"]["bandwidth"]


@pytest.mark.parametrize(
    ("scorer", "reason"), [("few", "ValueError: too few rows"), ("not_a_number", "the score is nan")]
)
def test_a_scorer_may_fail_on_the_test_rows(
    scorer: str, reason: str, search: Callable[..., Path], tmp_path: Path
) -> None:
    summary = run(search(scoring=f"of_mine:{scorer}", test=0.1), tmp_path / "out")
    assert summary["best_params"]
    assert summary["test"] == {"score": None, "n": 12, "reason": reason}
    assert f"no score on 12 rows that took no part ({reason})" in headline(summary)


@pytest.mark.filterwarnings("ignore:.*non-finite")
def test_a_score_that_is_infinite_is_none(search: Callable[..., Path], tmp_path: Path) -> None:
    summary = run(search(scoring="of_mine:infinite"), tmp_path / "out")
    assert summary["status"] == "done"
    (odd,) = (one for one in lines(tmp_path / "out") if one["params"] == {"C": 1.0})
    assert (odd["score"], odd["status"], odd["reason"]) == (None, "failed", "the score of a fold is inf")


@pytest.mark.filterwarnings("ignore")
def test_journal_and_summary_agree_on_what_failed(search: Callable[..., Path], tmp_path: Path) -> None:
    summary = run(search(estimator="of_mine:picky", error_score=0), tmp_path / "out")
    told = {one["id"]: (one["status"], one["reason"]) for one in lines(tmp_path / "out")}
    assert {one["id"]: (one["status"], one["reason"]) for one in summary["trials"]} == told
    assert sorted(status for status, _ in told.values()) == ["done", "done", "failed"]


def test_bounds_that_nothing_keeps_are_said_without_a_refit(search: Callable[..., Path], tmp_path: Path) -> None:
    job = search(refit=False, constraints={"score": {"at_least": 2}})
    with pytest.raises(WorkError, match="score"):
        run(job, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["status"] == "failed"
    assert not (tmp_path / "out" / "artifacts").exists()


def test_a_list_of_one_metric_is_that_metric(search: Callable[..., Path], tmp_path: Path) -> None:
    one = run(search(scoring=["accuracy"]), tmp_path / "one")
    assert (one["metric"], one["status"]) == ("accuracy", "done")
    assert one["best_params"] == run(search(scoring="accuracy"), tmp_path / "plain")["best_params"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "fields", [{}, {"grid": None, "space": {"C": [1.0, 2.0]}, "strategy": "bayes"}], ids=["grid", "bayes"]
)
def test_scores_whose_sum_no_number_holds_are_none(
    search: Callable[..., Path], fields: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(WorkError, match="no candidate has a score: the mean of the scores is -inf"):
        run(search(scoring="of_mine:lowest", **fields), tmp_path / "out")


@pytest.mark.parametrize(
    "fields", [{"refit": False}, {"objective": "of_mine:two"}], ids=["without a refit", "with an objective"]
)
def test_a_scorer_of_several_scores_is_refused(
    search: Callable[..., Path], fields: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"^scoring: of_mine:two gives several scores where one decides"):
        run(search(scoring="of_mine:two", **fields), tmp_path / "out")
