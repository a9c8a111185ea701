"""Splitting: nothing lost, nothing twice, every class in its share, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayopt.data.dataset import SPLITS, Dataset, build
from rayopt.data.rows import Columns, Rows
from rayopt.data.settings import SplitSettings
from rayopt.errors import InputError

THIRDS = SplitSettings()


def made(
    y: np.ndarray, task: str = "auto", split: SplitSettings = THIRDS, seed: int = 0, x: np.ndarray | None = None
) -> Dataset:
    """A data set whose features are the row numbers."""
    rows = np.arange(len(y), dtype=np.float32)[:, None] if x is None else x
    return build("points", rows, y, task, split, seed, "job.yaml:3: data")


def rows_of(data: Dataset) -> dict[str, list[int]]:
    return {name: data[name].x[:, 0].astype(int).tolist() for name in SPLITS}


def refused(x: Rows, y: np.ndarray | None, task: str = "auto", split: SplitSettings = THIRDS) -> list[str]:
    with pytest.raises(InputError) as caught:
        build("points", x, y, task, split, 0, "here")
    assert all(fault.place == "here" and fault.remedy for fault in caught.value.faults)
    return [fault.problem for fault in caught.value.faults]


# Splits


@given(st.integers(20, 400), st.integers(1, 5), st.integers(0, 99))
def test_the_splits_are_disjoint_and_hold_every_row(rows: int, classes: int, seed: int) -> None:
    y = np.arange(rows) % classes if classes > 1 else np.linspace(0, 1, rows)
    parts = rows_of(made(y, seed=seed))
    assert sorted(row for part in parts.values() for row in part) == list(range(rows))
    for name, share in (("test", 0.2), ("selection", 0.2), ("calibration", 0.1)):
        assert abs(len(parts[name]) - share * rows) <= 0.5


@given(st.lists(st.integers(30, 120), min_size=2, max_size=4), st.integers(0, 99))
def test_every_split_holds_each_class_in_its_share(counts: list[int], seed: int) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    data = made(y, seed=seed)
    for name in SPLITS:
        share = len(data[name]) / len(y)
        for label, count in enumerate(counts):
            assert abs((data[name].y == label).sum() - share * count) <= 2


def test_targets_stay_with_their_features() -> None:
    y = np.random.default_rng(0).integers(0, 3, 90)
    data = made(y)
    for name, rows in rows_of(data).items():
        assert data[name].y.tolist() == y[rows].tolist()


def test_a_seed_gives_the_same_splits_and_another_seed_others() -> None:
    y = np.arange(60) % 2
    assert rows_of(made(y, seed=3)) == rows_of(made(y, seed=3))
    assert rows_of(made(y, seed=3)) != rows_of(made(y, seed=4))


@pytest.mark.parametrize(
    ("y", "least"),
    [(np.linspace(0, 1, 19), 20), (np.arange(19) % 2, 20), (np.arange(39) % 10, 40), (np.zeros(0), 20)],
)
def test_too_few_rows_are_refused(y: np.ndarray, least: int) -> None:
    (problem,) = refused(np.zeros((len(y), 2)), y)
    assert problem == f"has {len(y)} rows, fewer than the splits need ({least})"


def test_just_enough_rows_are_taken() -> None:
    assert {name: len(made(np.linspace(0, 1, 20))[name]) for name in SPLITS} == {
        "train": 10, "calibration": 2, "selection": 4, "test": 4
    }  # fmt: skip


def test_splits_that_take_everything_are_refused() -> None:
    (problem,) = refused(
        np.zeros((99, 1)), np.arange(99.0), split=SplitSettings(test=0.5, selection=0.3, calibration=0.2)
    )
    assert problem == "the splits take 100% of the rows"


def test_splits_that_leave_no_row_by_rounding_are_refused() -> None:
    split = SplitSettings(test=0.326, selection=0.326, calibration=0.277)
    (problem,) = refused(np.zeros((20, 1)), np.arange(20) / 3, split=split)
    assert problem == "the splits leave none of 20 rows to train on"


# The hash


def test_the_hash_is_that_of_all_values() -> None:
    y = np.arange(40) % 2
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    first = made(y, x=x).sha256
    assert made(y.copy(), x=x.copy()).sha256 == first
    for row in range(40):
        other = x.copy()
        other[row, row % 3] = np.nextafter(other[row, row % 3], np.float32(9))
        assert made(y, x=other).sha256 != first
        flipped = y.copy()
        flipped[row] = 1 - flipped[row]
        assert made(flipped, x=x).sha256 != first


def test_the_hash_knows_names_of_classes_types_seeds_and_splits() -> None:
    y = np.arange(40) % 2
    hashes = [
        made(y).sha256,
        made(np.where(y, "b", "a")).sha256,
        made(y, seed=1).sha256,
        made(y, split=SplitSettings(test=0.3)).sha256,
        made(y, task="regression").sha256,
        made(y, x=np.arange(40)[:, None]).sha256,
    ]
    assert len(set(hashes)) == len(hashes)


# Classes and quantities


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["no", "yes"], ("no", "yes")),
        ([True, False], ("False", "True")),
        ([7, 3], ("3", "7")),
        (np.array(["b", "a"], dtype=object), ("a", "b")),
    ],
)
def test_text_booleans_and_few_whole_numbers_are_classes(values: list[object], classes: tuple[str, ...]) -> None:
    data = made(np.asarray([values[row % 2] for row in range(40)], dtype=np.asarray(values).dtype))
    assert data.task == "classification"
    assert data.classes == classes
    assert data.output_shape == (2,)
    assert data["train"].y.dtype == np.int64
    assert set(data["test"].y.tolist()) == {0, 1}


@pytest.mark.parametrize("y", [np.linspace(0, 1, 60), np.arange(60), (np.arange(60) % 2).astype(np.float64)])
def test_fractions_and_many_whole_numbers_are_quantities(y: np.ndarray) -> None:
    data = made(y)
    assert data.task == "regression"
    assert data.classes == ()
    assert data.output_shape == (1,)
    assert data["train"].y.dtype == np.float32


def test_the_job_has_the_last_word_on_the_task() -> None:
    numbers = np.arange(60) % 2
    assert made(numbers, task="regression").task == "regression"
    assert made(numbers.astype(np.float64), task="classification").classes == ("0.0", "1.0")


# Arrays that are refused

FLAGS = np.arange(40) % 2
ZEROS = np.zeros((40, 2), np.float32)


def with_value(array: np.ndarray, value: object) -> np.ndarray:
    changed = array.copy()
    changed.flat[5] = value
    return changed


@pytest.mark.parametrize(
    ("x", "y", "problem"),
    [
        pytest.param(with_value(ZEROS, np.nan), FLAGS, "1 of 40 rows have NaN or infinite features", id="nan"),
        pytest.param(with_value(ZEROS, -np.inf), FLAGS, "1 of 40 rows have NaN or infinite features", id="inf"),
        pytest.param(ZEROS, with_value(FLAGS / 3, np.nan), "1 of 40 targets are NaN or infinite", id="nan target"),
        pytest.param(ZEROS, with_value(FLAGS / 3, 1e300), "1 of 40 targets are NaN or infinite", id="huge target"),
        pytest.param(ZEROS, with_value(FLAGS.astype(object), None), "some targets are missing", id="no target"),
        pytest.param(ZEROS, with_value(FLAGS.astype(object), np.nan), "some targets are missing", id="nan object"),
        pytest.param(ZEROS, with_value(FLAGS.astype(object), "a"), "the targets are of type int, str", id="mixed"),
        pytest.param(ZEROS, np.array([{}] * 40), "the targets are of type dict", id="dicts"),
        pytest.param(ZEROS, np.zeros(40, int), "the target has a single class (0)", id="one class"),
        pytest.param(ZEROS, np.array(["b"] * 40), "the target has a single class (b)", id="one text"),
        pytest.param(ZEROS.astype(str), FLAGS, "features are of type <U32", id="text features"),
        pytest.param(ZEROS.astype(complex), FLAGS, "features are of type complex128", id="complex"),
        pytest.param(ZEROS[:, 0], FLAGS, "features have shape (40,)", id="flat features"),
        pytest.param(ZEROS, FLAGS[:, None], "the target has shape (40, 1)", id="target as a column"),
        pytest.param(ZEROS, ZEROS.astype(str), "the target has shape (40, 2)", id="two texts"),
        pytest.param(ZEROS[:39], FLAGS, "there are 39 rows of features but 40 targets", id="lengths"),
    ],
)
def test_arrays_are_refused_with_what_is_wrong(x: np.ndarray, y: np.ndarray, problem: str) -> None:
    assert refused(x, y) == [problem]


def test_text_cannot_be_regressed() -> None:
    assert refused(ZEROS, np.array(["a", "b"] * 20), task="regression") == ["targets of type <U1 cannot be regressed"]


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert len(refused(np.zeros(3, complex), np.zeros((4, 1)))) == 4
    assert len(refused(with_value(ZEROS, np.nan), with_value(FLAGS / 3, np.nan))) == 2
    assert refused(np.float32(1), np.float32(1)) == ["features have shape ()", "the target has shape ()"]


# Other forms of targets and features


def test_without_targets_there_are_no_labels() -> None:
    data = build("points", ZEROS[:8], None, "auto", SplitSettings(), 0, "here")
    assert (data.task, data.classes, data.output_shape) == ("unlabeled", (), None)
    assert all(split.y is None for split in data.splits.values())
    assert sum(len(split) for split in data.splits.values()) == 8


def test_targets_may_be_left_aside() -> None:
    assert build("points", ZEROS, FLAGS, "unlabeled", SplitSettings(), 0, "here")["test"].y is None


def test_a_task_with_targets_needs_some() -> None:
    assert refused(ZEROS, None, task="classification") == ["there are no targets for classification"]


def test_maps_of_classes_and_several_quantities() -> None:
    maps = (np.arange(40 * 6) % 3).reshape(40, 2, 3)
    data = build("maps", ZEROS, maps, "auto", SplitSettings(), 0, "here")
    assert (data.task, data.output_shape) == ("classification", (3, 2, 3))
    data = build("pairs", ZEROS, ZEROS + 0.5, "auto", SplitSettings(), 0, "here")
    assert (data.task, data.output_shape) == ("regression", (2,))


def test_several_inputs_stay_together() -> None:
    x = Columns({"ids": np.arange(80).reshape(40, 2), "mask": np.arange(40.0)})
    data = build("pairs", x, None, "auto", SplitSettings(), 0, "here")
    for split in data.splits.values():
        assert isinstance(split.x, Columns)
        assert np.array_equal(split.x.arrays["ids"][:, 0], 2 * split.x.arrays["mask"])
    other = build(
        "pairs", Columns({"ids": x.arrays["ids"], "masks": x.arrays["mask"]}), None, "auto", SplitSettings(), 0, "here"
    )
    assert other.sha256 != data.sha256  # the names of the inputs count


def test_inputs_of_different_lengths_are_told() -> None:
    x = Columns({"ids": np.zeros((40, 2)), "mask": np.zeros(39)})
    assert refused(x, FLAGS)[0] == "the features have different numbers of rows: 40 of 'ids', 39 of 'mask'"
