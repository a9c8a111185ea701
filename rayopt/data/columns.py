"""Columns of the data that are neither features nor target: the groups of rows, and their weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rayopt.data.settings import DataSettings
from rayopt.errors import did_you_mean, input_error

Array = np.ndarray[Any, Any]


def beside(settings: DataSettings, folder: Path, names: Mapping[str, str]) -> tuple[DataSettings, dict[str, Array]]:
    """The columns (or arrays) of these names, each `(rows,)`, and the settings of the data without them.

    names: each with the place of the job in which it stands. Raises InputError for one that the data do not have.
    """
    if not names:
        return settings, {}
    known, found = _read(settings, folder, names)
    if settings.features is None and (left := _features(settings, known, names)):
        settings = settings.model_copy(update={"features": left})
    taken = [settings.target, *([settings.features] if isinstance(settings.features, str) else settings.features or [])]
    for name, place in names.items():
        if name in taken:
            raise input_error(place, f"{name!r} is a feature or the target too", "take it out of `features:`")
    return settings, found


def _read(settings: DataSettings, folder: Path, names: Mapping[str, str]) -> tuple[list[str], dict[str, Array]]:
    """All names that there are, and the values of those that are wanted."""
    suffix, place = Path(settings.source).suffix, next(iter(names.values()))
    if ":" in settings.source or suffix not in (".npz", ".csv", ".parquet"):
        remedy = "give the data as .npz, .csv or .parquet, with a column or array of that name"
        raise input_error(place, f"{settings.source} has no named columns", remedy)
    path = folder / settings.source
    try:
        known, get = _npz(path) if suffix == ".npz" else _table(path, suffix)
    except (OSError, ValueError) as error:
        problem = f"{path} cannot be read: {str(error).splitlines()[0]}"
        raise input_error(place, problem, f"check that it is a {suffix} file") from error
    for name, place in names.items():
        if name not in known:
            raise input_error(place, f"{path.name} has no column or array {name!r}", did_you_mean(name, known))
    return known, {name: get[name] for name in names}


def _npz(path: Path) -> tuple[list[str], Any]:
    with np.load(path, allow_pickle=False) as archive:
        return list(archive.files), {name: archive[name] for name in archive.files}


def _table(path: Path, suffix: str) -> tuple[list[str], Any]:
    import pandas

    table = pandas.read_csv(path) if suffix == ".csv" else pandas.read_parquet(path)
    return [str(name) for name in table.columns], {str(name): table[name].to_numpy() for name in table.columns}


def _features(settings: DataSettings, known: Sequence[str], names: Iterable[str]) -> str | list[str] | None:
    """What is left as features where the job names none; None where that needs no saying."""
    is_npz = Path(settings.source).suffix == ".npz"
    if is_npz and {"x", "X"} & set(known):
        return None
    target = settings.target or ("y" if is_npz and "y" in known else None)
    left = [name for name in known if name not in (*names, target)]
    return left[0] if is_npz and len(left) == 1 else left
