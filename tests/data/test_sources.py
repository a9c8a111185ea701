"""Every place that data may come from, and what is said of each that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rayopt import plugins
from rayopt.data import settings as data_settings
from rayopt.data.dataset import SPLITS, Dataset
from rayopt.data.rows import Columns
from rayopt.data.settings import BUILT_IN, SUFFIXES, DataSettings
from rayopt.data.sources import READERS, SETS, load
from rayopt.errors import InputError
from rayopt.spec import Document

ROWS = 40
X = np.random.default_rng(0).normal(size=(ROWS, 3))
Y = np.arange(ROWS) % 2


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    yield
    plugins.forget()


def loaded(folder: Path, source: str, **fields: Any) -> Dataset:
    return load(DataSettings(source=source, **fields), folder, 0, "job.yaml:3: data")


def refused(folder: Path, source: str, **fields: Any) -> str:
    with pytest.raises(InputError) as caught:
        loaded(folder, source, **fields)
    (fault,) = caught.value.faults
    assert fault.place == "job.yaml:3: data"
    assert fault.remedy
    assert "\n" not in str(fault)
    return f"{fault.problem}; {fault.remedy}"


def holds(data: Dataset, x: np.ndarray, y: np.ndarray) -> bool:
    """Whether the splits together are these rows, in whatever order."""
    found = sorted((*row, target) for name in SPLITS for row, target in zip(data[name].x, data[name].y, strict=True))
    return found == sorted((*row, target) for row, target in zip(x.astype(np.float32), y, strict=True))


def table() -> pd.DataFrame:
    return pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "label": Y})


# Built-in sets


def test_every_source_that_may_be_named_can_be_read() -> None:
    assert tuple(SETS) == BUILT_IN
    assert tuple(READERS) == SUFFIXES


def test_digits(tmp_path: Path) -> None:
    data = loaded(tmp_path, "digits")
    assert data["train"].x.shape[1:] == (1, 8, 8)
    assert sum(len(data[name]) for name in SPLITS) == 1797
    assert data.classes == tuple("0123456789")
    assert data["train"].x.dtype == np.float32
    assert (data["train"].x.min(), data["train"].x.max()) == (0, 1)


def test_mnist5k(tmp_path: Path) -> None:
    data = loaded(tmp_path, "mnist5k")
    assert data["train"].x.shape[1:] == (1, 28, 28)
    assert sum(len(data[name]) for name in SPLITS) == 5000
    assert data.classes == tuple("0123456789")
    assert (data["train"].x.min(), data["train"].x.max()) == (0, 1)


# Files


@pytest.mark.parametrize(
    ("arrays", "fields"),
    [
        ({"x": X, "y": Y}, {}),
        ({"X": X, "y": Y}, {}),
        ({"points": X, "y": Y}, {}),
        ({"points": X, "flags": Y, "x": X + 1}, {"features": "points", "target": "flags"}),
    ],
)
def test_npz(tmp_path: Path, arrays: dict[str, np.ndarray], fields: dict[str, str]) -> None:
    np.savez(tmp_path / "points.npz", **arrays)
    assert holds(loaded(tmp_path, "points.npz", **fields), X, Y)


@pytest.mark.parametrize("name", ["points.csv", "points.parquet"])
def test_tables(tmp_path: Path, name: str) -> None:
    write_table(table(), tmp_path / name)
    assert holds(loaded(tmp_path, name, target="label"), X, Y)
    assert holds(loaded(tmp_path, name, target="label", features=["c", "a"]), X[:, [2, 0]], Y)
    assert holds(loaded(tmp_path, name, target="label", features="b"), X[:, [1]], Y)
    assert holds(loaded(tmp_path, name, target="c", features=["a", "b"]), X[:, :2], X[:, 2].astype(np.float32))


def write_table(frame: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)


@pytest.mark.parametrize("name", ["points.csv", "points.parquet"])
def test_columns_of_several_numeric_types(tmp_path: Path, name: str) -> None:
    frame = table().assign(count=np.arange(ROWS), flag=Y == 1, label=np.where(Y, "yes", "no"))
    write_table(frame, tmp_path / name)
    data = loaded(tmp_path, name, target="label")
    assert data["train"].x.shape == (20, 5)
    assert data["train"].x.dtype == np.float32
    assert data.classes == ("no", "yes")


def test_a_column_of_booleans_is_two_classes(tmp_path: Path) -> None:
    write_table(table().assign(label=Y == 1), tmp_path / "points.csv")
    assert loaded(tmp_path, "points.csv", target="label").classes == ("False", "True")


def test_columns_that_may_be_missing_values_are_read_where_none_is_missing(tmp_path: Path) -> None:
    whole = table().convert_dtypes()
    write_table(whole, tmp_path / "whole.parquet")
    assert holds(loaded(tmp_path, "whole.parquet", target="label"), X, Y)
    whole.loc[3, "a"] = pd.NA
    write_table(whole, tmp_path / "holes.parquet")
    assert refused(tmp_path, "holes.parquet", target="label").startswith("1 of 40 rows have NaN")


def test_categories_are_classes(tmp_path: Path) -> None:
    write_table(table().assign(label=pd.Categorical(np.where(Y, "yes", "no"))), tmp_path / "points.parquet")
    assert loaded(tmp_path, "points.parquet", target="label").classes == ("no", "yes")


def test_whole_numbers_stay_exact_where_asked(tmp_path: Path) -> None:
    ids = np.arange(ROWS) + (1 << 40)
    write_table(pd.DataFrame({"id": ids, "label": Y}), tmp_path / "ids.csv")
    np.savez(tmp_path / "ids.npz", x=ids[:, None], y=Y)
    for name in ("ids.csv", "ids.npz"):
        data = loaded(tmp_path, name, target="label" if name.endswith("csv") else None, dtype="int64")
        assert data["train"].x.dtype == np.int64
        assert sorted(row for part in SPLITS for row in data[part].x[:, 0]) == ids.tolist()


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 1e300])
def test_what_is_no_whole_number_is_refused_where_whole_numbers_are_asked_for(tmp_path: Path, value: float) -> None:
    np.savez(tmp_path / "points.npz", x=np.full((ROWS, 2), value), y=Y)
    assert refused(tmp_path, "points.npz", dtype="int64").startswith("features are not all whole numbers; leave `dtype")


def test_a_feature_that_float32_cannot_hold_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "points.npz", x=np.full((ROWS, 2), 1e300), y=Y)
    assert refused(tmp_path, "points.npz").startswith("40 of 40 rows have NaN or infinite features")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "cannot be read: No columns to parse from file; check that it is a .csv file"),
        ("a,label\n", "points.csv has no rows; give more data"),
        ("a,label\n1,2\n1,2,3,4\n", "cannot be read: Error tokenizing data"),
        ("a,lable\n1,2\n", "points.csv has no column 'label'; did you mean 'lable'?"),
        ("a;label\n1;2\n", "points.csv has no column 'label'; did you mean"),
        ("a,b,label\nx,1,2\n", "columns a of points.csv are not numeric; encode them as numbers, or list"),
        ("a,label\n1,\n2,3\n", "column 'label' has 1 missing values; drop those rows"),
    ],
)
def test_a_csv_file_is_refused_with_what_is_wrong(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "points.csv").write_text(content)
    assert problem in refused(tmp_path, "points.csv", target="label")


def test_a_feature_that_is_not_there_or_is_the_target_is_told(tmp_path: Path) -> None:
    write_table(table(), tmp_path / "points.csv")
    assert "no column 'aa'; did you mean 'a'?" in refused(tmp_path, "points.csv", target="label", features=["aa"])
    assert refused(tmp_path, "points.csv", target="a", features=["a", "b"]) == (
        "the target 'a' is among the features; take it out of `features:`"
    )


@pytest.mark.parametrize("name", ["points.npz", "points.csv", "points.parquet"])
@pytest.mark.parametrize("content", [b"\xff\xfe\x00garbage", b"PK\x03\x04 torn \xff", b""])
def test_garbage_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert f"{name} cannot be read: " in refused(tmp_path, name, target="y")


def test_objects_in_an_npz_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "points.npz", x=X, y=np.array([{}] * ROWS))
    assert "Object arrays cannot be loaded" in refused(tmp_path, "points.npz")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"target": "z"}, "points.npz has no array 'z' for `target`; known: flags, points, y"),
        ({"features": "point"}, "no array 'point' for `features`; did you mean 'points'?"),
        ({"features": ["points", "flag"]}, "no array 'flag' for `features`; did you mean 'flags'?"),
    ],
)
def test_arrays_that_are_not_there_are_told(tmp_path: Path, fields: dict[str, Any], problem: str) -> None:
    np.savez(tmp_path / "points.npz", points=X, flags=X, y=Y)
    assert problem in refused(tmp_path, "points.npz", **fields)


def test_a_single_array_is_no_archive(tmp_path: Path) -> None:
    with (tmp_path / "points.npz").open("wb") as file:
        np.save(file, X)
    assert refused(tmp_path, "points.npz").startswith(
        "points.npz holds one array without a name; write it with np.savez"
    )


# Functions

FUNCTIONS = f"""
import numpy as np
import torch

x = np.arange({ROWS * 2}.0).reshape(-1, 2)
y = np.arange({ROWS}) % 2


class Points(torch.utils.data.Dataset):
    def __len__(self):
        return len(y)

    def __getitem__(self, row):
        return torch.from_numpy(x[row]), torch.tensor(y[row])


def pair(scale=1):
    return x * scale, y

def mapping():
    return {{"x": x, "y": y, "more": 1}}

def tensors():
    return torch.from_numpy(x), torch.from_numpy(y)

def lists():
    return x.tolist(), y.tolist()

def dataset():
    return Points()

def torch_pairs():
    return torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))

def subset():
    return torch.utils.data.Subset(Points(), range({ROWS}))

def named():
    return x, np.array(["no", "yes"])[y]

def bare():
    return x

def unlabeled():
    return x, None

def several():
    return {{"x": {{"ids": x.astype(int), "mask": y}}}}

def fails():
    raise KeyError("no such year")

def leaves():
    raise SystemExit(3)

def nothing():
    pass

def three():
    return x, y, y

def stream():
    return iter([(1, 2)])

def ragged():
    return [[1], [1, 2]] * 20, y

def trained():
    return torch.zeros(40, 2, requires_grad=True), y

VALUE = 3
"""


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    (tmp_path / "points_of_a_test.py").write_text(FUNCTIONS)
    return tmp_path


@pytest.mark.parametrize("name", ["pair", "mapping", "tensors", "lists", "dataset", "torch_pairs", "subset"])
def test_a_function_may_return_its_rows_in_several_forms(functions: Path, name: str) -> None:
    data = loaded(functions, f"points_of_a_test:{name}")
    assert holds(data, np.arange(ROWS * 2.0).reshape(-1, 2), Y)
    assert data.task == "classification"


def test_a_function_gets_its_arguments(functions: Path) -> None:
    data = loaded(functions, "points_of_a_test:pair", args={"scale": 3})
    assert holds(data, 3 * np.arange(ROWS * 2.0).reshape(-1, 2), Y)


def test_a_function_may_name_its_classes(functions: Path) -> None:
    assert loaded(functions, "points_of_a_test:named").classes == ("no", "yes")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("fails", "points_of_a_test:fails raised KeyError: 'no such year'; mend the function"),
        ("leaves", "points_of_a_test:leaves raised SystemExit: 3; mend the function"),
        ("nothing", "the function returned NoneType; return (x, y), a dict with x and y, or a map-style dataset"),
        ("three", "the function returned tuple; return (x, y)"),
        ("stream", "the function returned list_iterator; return (x, y)"),
        ("ragged", "points_of_a_test:ragged raised ValueError: setting an array element"),
        ("trained", "points_of_a_test:trained raised RuntimeError: Can't call numpy()"),
        ("VALUE", "points_of_a_test:VALUE is not callable; name a function that returns (x, y)"),
        ("pairr", "points_of_a_test has no 'pairr'; did you mean 'pair'?"),
    ],
)
def test_a_function_that_gives_no_data_is_told(functions: Path, name: str, problem: str) -> None:
    assert refused(functions, f"points_of_a_test:{name}").startswith(problem)


def test_arguments_that_a_function_does_not_take_are_told(functions: Path) -> None:
    assert "unexpected keyword argument 'scal'" in refused(functions, "points_of_a_test:pair", args={"scal": 3})


# What shows without reading anything


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "digit"}, "data.source: unknown data source 'digit'; did you mean 'digits'?"),
        ({"source": "points.txt"}, "data.source: unknown data source 'points.txt'; known: FILE.csv, FILE.npy"),
        ({"source": "none.npz"}, "/none.npz; paths are relative to the job file"),
        ({"source": "x" * 300 + ".npz"}, "cannot be read: File name too long; give another path"),
    ],
)
def test_a_source_that_cannot_be_is_told_at_once(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    (fault,) = data_settings.check(DataSettings(**fields), Document({}, "job.yaml", tmp_path))
    assert message in str(fault)


def test_a_table_needs_a_target(tmp_path: Path) -> None:
    (tmp_path / "points.csv").touch()
    (fault,) = data_settings.check(DataSettings(source="points.csv"), Document({}, "job.yaml", tmp_path))
    told = "job.yaml: data.target: does not say which column is the target; add `target: COLUMN`, or `task: unlabeled`"
    assert str(fault).startswith(told)
    assert (
        data_settings.check(DataSettings(source="points.csv", task="unlabeled"), Document({}, "job.yaml", tmp_path))
        == []
    )


@pytest.mark.parametrize("source", ["digits", "mnist5k", "any.module:function"])
def test_sets_and_functions_are_only_looked_at_when_they_are_read(source: str) -> None:
    assert data_settings.check(DataSettings(source=source), Document({}, "job.yaml", Path("folder"))) == []


# Without labels, and with several inputs


def test_rows_without_targets(tmp_path: Path) -> None:
    np.savez(tmp_path / "points.npz", x=X)
    np.save(tmp_path / "points.npy", X)
    write_table(table()[["a", "b"]], tmp_path / "points.csv")
    assert loaded(tmp_path, "points.npz").task == "unlabeled"
    assert loaded(tmp_path, "points.npy").sha256 == loaded(tmp_path, "points.npz").sha256
    assert loaded(tmp_path, "points.csv", task="unlabeled")["test"].y is None


def test_targets_that_are_not_wanted_are_no_features(tmp_path: Path) -> None:
    np.savez(tmp_path / "points.npz", points=X, y=Y)
    data = loaded(tmp_path, "points.npz", task="unlabeled")
    assert data["train"].y is None
    assert isinstance(data["train"].x, np.ndarray)


def test_an_npz_may_hold_several_inputs(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "tokens.npz", ids=np.arange(60).reshape(30, 2), weight=np.linspace(0, 1, 30), y=np.arange(30) % 2
    )
    every = loaded(tmp_path, "tokens.npz")["train"].x
    assert isinstance(every, Columns)
    assert {name: array.dtype.str for name, array in every.arrays.items()} == {"ids": "<i8", "weight": "<f4"}
    named = loaded(tmp_path, "tokens.npz", features=["weight"])["train"].x
    assert isinstance(named, Columns)
    assert list(named.arrays) == ["weight"]


@pytest.mark.parametrize("name", ["bare", "unlabeled", "several"])
def test_a_function_may_leave_labels_out(functions: Path, name: str) -> None:
    assert loaded(functions, f"points_of_a_test:{name}").task == "unlabeled"
