"""Rows without labels train, and never choose or report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayopt.data.partial import MISSING, Partial, Sources, load
from rayopt.data.settings import DataSettings, SplitSettings
from rayopt.errors import InputError

PLACES = {name: f"job.yaml: {name}" for name in ("data", "unlabeled", "test")}
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(100, 3)).astype(np.float32)
Y = np.arange(100) % 4


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def write(name: str, x: np.ndarray, y: np.ndarray | None) -> DataSettings:
        np.savez(tmp_path / f"{name}.npz", x=x, **({} if y is None else {"y": y}))
        return DataSettings(source=f"{name}.npz")

    def read(y: np.ndarray | None, more: Any = None, test: Any = None, missing: Any = None) -> Partial:
        given = Sources(
            write("data", X, y), more and write("more", *more), test and write("test", *test), missing
        )  # fmt: skip
        return load(given, tmp_path, 0, PLACES)

    return read


def test_marked_rows_and_another_file_only_train(read: Any) -> None:
    y = np.where(np.arange(100) < 60, Y, -1)
    found = read(y, more=(np.zeros((7, 3), np.float32), None), missing=-1)
    assert found.data.classes == ("0", "1", "2", "3")
    assert sum(len(split) for split in found.data.splits.values()) == 60
    labeled = len(found.data["train"])
    assert (found.labeled_count, len(found.x)) == (labeled, labeled + 40 + 7)
    np.testing.assert_array_equal(found.y[labeled:], MISSING)
    np.testing.assert_array_equal(found.x[labeled : labeled + 40], X[60:])
    by_row = {tuple(row): label for row, label in zip(X.tolist(), Y.tolist(), strict=True)}
    assert all(by_row[tuple(row)] == label for row, label in zip(found.x.tolist(), found.y[:labeled], strict=False))
    assert found.labeled_share == labeled / (labeled + 47)


def test_nan_is_a_label_that_is_not_there_and_classes_stay_whole_numbers(read: Any) -> None:
    found = read(np.where(np.arange(100) < 60, Y, np.nan))
    assert found.data.task == "classification"
    assert found.y.dtype == np.int64
    assert (found.y == MISSING).sum() == 40


def test_quantities_that_are_not_there_are_nan(read: Any) -> None:
    quantities = np.where(np.arange(100) < 60, X[:, 0] * 3.3, np.nan)
    found = read(quantities)
    assert found.data.task == "regression"
    assert np.isnan(found.y).sum() == 40


def test_no_label_at_all(read: Any) -> None:
    for y in (None, np.full(100, np.nan)):
        found = read(y)
        assert (found.data.task, found.y, found.labeled_count) == ("unlabeled", None, 0)


def test_rows_of_their_own_to_report_on(read: Any) -> None:
    test = np.ones((5, 3), np.float32), np.array([3, 2, 1, 0, 0])
    found = read(Y, test=test)
    np.testing.assert_array_equal(found.data["test"].x, test[0])
    np.testing.assert_array_equal(found.data["test"].y, test[1])
    without = read(Y)
    assert len(found.data["train"]) == len(without.data["train"]) + len(without.data["test"])
    assert found.data.sha256 != without.data.sha256


@pytest.mark.parametrize(
    ("given", "place", "problem"),
    [
        ({"more": (np.zeros((7, 4), np.float32), None)}, "unlabeled", "shape"),
        ({"more": (np.full((7, 3), np.nan, np.float32), None)}, "unlabeled", "NaN"),
        ({"test": (X, np.full(100, 9))}, "test", "a class that the data has not: 9"),
        ({"test": (X, None)}, "test", "no targets"),
        ({"test": (X[:, :2], Y)}, "test", "shape"),
    ],
)
def test_sources_that_do_not_go_together_are_refused(
    read: Any, given: dict[str, Any], place: str, problem: str
) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        read(Y, **given)
    assert caught.value.faults[0].place == PLACES[place]
    assert caught.value.faults[0].remedy


def test_the_shares_hold_for_the_labeled_rows(read: Any, tmp_path: Path) -> None:
    y = np.where(np.arange(100) < 60, Y, -1)
    read(y, missing=-1)
    split = SplitSettings(test=0.3, selection=0.1, calibration=0.1)
    found = load(Sources(DataSettings(source="data.npz", split=split), missing=-1), tmp_path, 0, PLACES)
    assert {name: len(part) for name, part in found.data.splits.items()} == {
        "train": 30,
        "calibration": 6,
        "selection": 6,
        "test": 18,
    }
