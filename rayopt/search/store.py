"""Results of cells that outlive the process: in the cache, by the content of what they were made from."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

from rayopt.records import digest
from rayopt.runs.cache import Cache, Entry
from rayopt.search.cells import Batch, Cell, Result
from rayopt.search.content import hash_of


class Store(Protocol):
    def get(self, batch: Batch, cell: Cell) -> Result | None: ...

    def put(self, batch: Batch, cell: Cell, result: Result) -> None: ...

    def put_late(self, batch: Batch, cell: Cell, result: Result) -> None:
        """The result of a cell that was ended because it took too long."""


class CachedCells:
    """`context` stands for all that decides a result but the parameters and the rows: estimator, data, scorers.

    late: what knows again the cells that took too long, such as the deadline and the run; empty: nothing does. Another
    run, perhaps on an idle machine, tries them again.
    """

    def __init__(self, cache: Cache, context: str, late: str = "") -> None:
        self._cache, self._context, self._late = cache, context, late
        self._rows: dict[int, str] = {}
        self._batch: Batch | None = None

    def get(self, batch: Batch, cell: Cell) -> Result | None:
        entry = self._cache.get(self._key(batch, cell))
        if entry is None and self._late:
            entry = self._cache.get(self._late_key(batch, cell))
        return dict(entry.value["cell"]) if entry is not None else None

    def put(self, batch: Batch, cell: Cell, result: Result) -> None:
        self._cache.put(self._key(batch, cell), Entry({"cell": result}, {}))

    def put_late(self, batch: Batch, cell: Cell, result: Result) -> None:
        if self._late:
            self._cache.put(self._late_key(batch, cell), Entry({"cell": result}, {}))

    def _late_key(self, batch: Batch, cell: Cell) -> str:
        return digest(["late", self._late, self._key(batch, cell)])

    def _key(self, batch: Batch, cell: Cell) -> str:
        if batch is not self._batch:
            self._batch, self._rows = batch, {}
        if cell.fold not in self._rows:
            self._rows[cell.fold] = _hash_rows(batch.splits[cell.fold])
        parameters = sorted((name, _told(value)) for name, value in cell.parameters.items())
        return digest(["cell", self._context, parameters, self._rows[cell.fold]])


def _told(value: Any) -> str:
    """A value in words where they say all of it; of others, such as long arrays and estimators, they do not."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    return hash_of(value, "a parameter")


def _hash_rows(split: tuple[Any, Any]) -> str:
    import numpy as np

    total = hashlib.sha256()
    for rows in split:
        array = np.ascontiguousarray(rows)
        total.update(f"{array.dtype.str} {array.shape}".encode() + array.tobytes())
    return total.hexdigest()
