"""Checked and split data from the cache, so that a job which is run again need not read and check it again.

Only what is known by its content: a built-in set, or a file. A function of the user's own may read anything, and is
asked anew each time.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rayopt.data import sources
from rayopt.data.dataset import SPLITS, Array, Dataset, Split
from rayopt.data.rows import Columns, Rows, arrays_of
from rayopt.data.settings import DataSettings
from rayopt.records import digest
from rayopt.runs.cache import Cache, Entry

MOST_BYTES = 256 << 20  # larger data is read from where it is


def load(settings: DataSettings, folder: Path, seed: int, place: str, cache: Cache, context: str) -> Dataset:
    """The same as `sources.load`; `context` is a hash of the libraries and the code that the result depends on."""
    content = _content(settings, folder)
    if content is None:
        return sources.load(settings, folder, seed, place)
    key = digest(["data", settings.model_dump(mode="json"), content, seed, context])
    entry = cache.get(key)
    if entry is not None:
        return _decode(entry)
    data = sources.load(settings, folder, seed, place)
    if sum(array.nbytes for _, array in _arrays(data)) <= MOST_BYTES and content == _content(settings, folder):
        cache.put(key, _encode(data))
    return data


def _content(settings: DataSettings, folder: Path) -> str | None:
    """What decides the data beside the settings; None where nothing is known to."""
    if settings.source in sources.SETS:
        return settings.source
    path = folder / settings.source
    if ":" in settings.source or not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _arrays(data: Dataset) -> Iterator[tuple[str, Array]]:
    """Every array of a data set with a file name of its own."""
    for part in SPLITS:
        for number, array in enumerate(arrays_of(data[part].x).values()):
            yield f"{part}_x{number}.npy", array
        y = data[part].y
        if y is not None:
            yield f"{part}_y.npy", y


def _encode(data: Dataset) -> Entry:
    files = {}
    for name, array in _arrays(data):
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        files[name] = file.getvalue()
    x = data["train"].x
    told = {
        "name": data.name,
        "task": data.task,
        "classes": list(data.classes),
        "sha256": data.sha256,
        "generated": data.generated,
        "inputs": list(x.arrays) if isinstance(x, Columns) else None,
    }
    return Entry({"data": told}, files)


def _decode(entry: Entry) -> Dataset:
    told = entry.value["data"]
    splits = {part: _split(part, told["inputs"], entry.files) for part in SPLITS}
    return Dataset(told["name"], told["task"], tuple(told["classes"]), splits, told["sha256"], told["generated"])


def _split(part: str, inputs: list[str] | None, files: Mapping[str, bytes]) -> Split:
    x: Rows
    if inputs is None:
        x = _array(files[f"{part}_x0.npy"])
    else:
        x = Columns({name: _array(files[f"{part}_x{number}.npy"]) for number, name in enumerate(inputs)})
    return Split(x, _array(files[f"{part}_y.npy"]) if f"{part}_y.npy" in files else None)


def _array(content: bytes) -> Array:
    """An array that no step may change, as those that were loaded."""
    array: np.ndarray[Any, Any] = np.load(io.BytesIO(content), allow_pickle=False)
    array.flags.writeable = False
    return array
