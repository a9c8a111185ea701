"""Data from the cache is the data that was loaded, and is never that of another file, setting or library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rayopt.data import remembered, sources
from rayopt.data.dataset import SPLITS, Dataset
from rayopt.data.rows import arrays_of
from rayopt.data.settings import DataSettings
from rayopt.runs.cache import Cache


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def load(cache: Cache, folder: Path, context: str = "", seed: int = 0, **fields: object) -> Dataset:
    return remembered.load(DataSettings.model_validate(fields), folder, seed, "data", cache, context)


def entries(cache: Cache) -> int:
    return cache.info().entries_count


def assert_same(one: Dataset, other: Dataset) -> None:
    kept = ("name", "task", "classes", "sha256", "generated", "output_shape")
    assert [getattr(one, name) for name in kept] == [getattr(other, name) for name in kept]
    for part in SPLITS:
        for left, right in zip(
            [*arrays_of(one[part].x).items(), ("", one[part].y)],
            [*arrays_of(other[part].x).items(), ("", other[part].y)],
            strict=True,
        ):
            assert left[0] == right[0]
            assert (left[1] is None) == (right[1] is None)
            if left[1] is not None and right[1] is not None:
                assert left[1].dtype == right[1].dtype
                assert not left[1].flags.writeable
                np.testing.assert_array_equal(left[1], right[1])


def write(path: Path, **arrays: np.ndarray) -> None:
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("arrays", "fields"),
    [
        ({"x": np.arange(400.0).reshape(100, 4), "y": np.arange(100) % 3}, {}),
        ({"x": np.arange(400.0).reshape(100, 4), "y": np.linspace(0, 1, 100)}, {"task": "regression"}),
        ({"x": np.arange(400).reshape(100, 4)}, {"task": "unlabeled", "dtype": "int64"}),
        (
            {"ids": np.arange(400).reshape(100, 4), "../mask": np.ones((100, 4)), "y": np.arange(100) % 2},
            {"features": ["ids", "../mask"]},
        ),
    ],
)
def test_what_comes_from_the_cache_is_what_was_loaded(
    cache: Cache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arrays: dict[str, np.ndarray],
    fields: dict[str, object],
) -> None:
    write(tmp_path / "points.npz", **arrays)
    settings = DataSettings.model_validate({"source": "points.npz", **fields})
    loaded = sources.load(settings, tmp_path, 0, "data")
    assert_same(load(cache, tmp_path, source="points.npz", **fields), loaded)
    monkeypatch.setattr(sources, "load", lambda *_: pytest.fail("it was loaded again"))
    assert_same(load(cache, tmp_path, source="points.npz", **fields), loaded)


def test_another_content_setting_seed_or_library_is_other_data(cache: Cache, tmp_path: Path) -> None:
    x, y = np.arange(400.0).reshape(100, 4), np.arange(100) % 3
    write(tmp_path / "points.npz", x=x, y=y)
    first = load(cache, tmp_path, source="points.npz")
    load(cache, tmp_path, source="points.npz", seed=1)
    load(cache, tmp_path, source="points.npz", split={"test": 0.3})
    load(cache, tmp_path, source="points.npz", context="another numpy")
    assert entries(cache) == 4
    write(tmp_path / "points.npz", x=x + 1, y=y)
    assert load(cache, tmp_path, source="points.npz").sha256 != first.sha256
    (tmp_path / "same.npz").write_bytes((tmp_path / "points.npz").read_bytes())
    assert load(cache, tmp_path, source="same.npz").name == "same.npz"


def test_a_damaged_entry_is_loaded_again(cache: Cache, tmp_path: Path) -> None:
    write(tmp_path / "points.npz", x=np.arange(400.0).reshape(100, 4), y=np.arange(100) % 3)
    first = load(cache, tmp_path, source="points.npz")
    for path in cache.folder.rglob("train_x0.npy"):
        path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert_same(load(cache, tmp_path, source="points.npz"), first)


def test_a_function_is_asked_anew_each_time(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "counted_rows.py").write_text(
        "import numpy as np\ncalls = []\n"
        "def make():\n    calls.append(1)\n    return np.full((40, 2), len(calls)), np.arange(40) % 2\n"
    )
    first, second = (load(cache, tmp_path, source="counted_rows:make") for _ in range(2))
    assert first.sha256 != second.sha256
    assert entries(cache) == 0


def test_large_data_is_left_where_it_is(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST_BYTES", 1000)
    write(tmp_path / "points.npz", x=np.arange(400.0).reshape(100, 4), y=np.arange(100) % 3)
    load(cache, tmp_path, source="points.npz")
    assert entries(cache) == 0
