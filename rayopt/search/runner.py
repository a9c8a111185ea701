"""The driver's side of a search: what scikit-learn calls to have the cells of a round evaluated."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Any

from rayopt.search.book import HERE, Book
from rayopt.search.cells import Batch, Result, read, scikit_learns
from rayopt.search.crew import Crew
from rayopt.search.hire import Hire, IsWanted, Open
from rayopt.search.means import Growth, Means, Progress
from rayopt.search.round import RAY, Round
from rayopt.search.store import Store

__all__ = ["Growth", "Means", "Progress", "Runner"]

_numbers = itertools.count(1)  # through the life of the process: a crew may serve several searches


class Runner:
    """Evaluates the rounds of one search; to be closed after it. Stands where scikit-learn has its joblib.Parallel.

    `evaluated` says how many cells were evaluated here, by crews, and came from the store; `by` the same by name.
    """

    def __init__(
        self,
        means: Means,
        store: Store | None = None,
        progress: Progress | None = None,
        growth: Growth | None = None,
    ) -> None:
        self._means, self._store = means, store
        self._progress, self._growth = progress or Progress(), growth or Growth()
        self.evaluated = {"here": 0, "crews": 0, "cached": 0}
        self.by: Counter[str] = Counter()
        self._hires: dict[str, Hire] = {}

    def __call__(self, calls: Iterable[tuple[Any, tuple[Any, ...], dict[str, Any]]]) -> list[Result]:
        """The results of a round, in the order of its calls; raises what an evaluation raised."""
        number = next(_numbers)
        batch, cells = read(
            calls, self._means.share_prefixes, self._means.own, lambda batch: self._call_early(number, batch)
        )
        if batch is None:
            return []
        self._progress.round_read(cells)
        book = Book(batch, cells, self._store, self._progress, self._growth)
        try:
            with Round(number, book, self._means, self._hires) as now:
                now.run()
        finally:
            self._count(book)
        return [scikit_learns(book.results[cell.index]) for cell in cells]

    def close(self) -> None:
        """Sends everybody home, and says who has done how much."""
        if sum(self.evaluated.values()):
            self._progress.note(self._told())
        for hire in self._hires.values():
            hire.close()
        for name, hire in self._hires.items():
            if not hire.wait():
                self._progress.note(f"{name} was called and neither came nor said why not; the call is left to itself")
        self._hires.clear()

    def _call_early(self, number: int, batch: Batch) -> None:
        """A Ray that runs is called and told of the batch while scikit-learn still clones, unless all may be stored."""
        means = self._means
        if means.ray_runs and means.open_ray is not None and self._store is None and RAY not in self._hires:
            self._hires[RAY] = Hire(functools.partial(_opened, means.open_ray, number, batch, means.deadline_s))

    def _count(self, book: Book) -> None:
        self.evaluated["cached"] += book.cached_count
        self.by += book.by
        self.evaluated["here"] = self.by[HERE]
        self.evaluated["crews"] = self.by.total() - self.by[HERE]

    def _told(self) -> str:
        """`evaluated: 12 in this process, 88 by 2 Ray Tune trials, 3 from the cache`."""
        cached = self.evaluated["cached"]
        parts = [
            f"{count} in this process" if name == HERE else f"{count} by {name}" for name, count in self.by.items()
        ]
        told = "evaluated: " + ", ".join([*parts, *([f"{cached} from the cache"] if cached else [])])
        if self._means.open_ray is None or not self.by[HERE] or self.evaluated["crews"]:
            return told
        hire = self._hires.get(RAY)
        if hire is None:
            return f"{told}; Ray was not called: it would have taken longer to start"
        return f"{told}; finished before Ray was there" if not hire.is_told else told


def _opened(open_ray: Open, number: int, batch: Batch, deadline_s: float | None, is_wanted: IsWanted) -> Crew:
    """The crew, which knows the batch by then; what fails of that fails again in the round, which tells of it."""
    crew = open_ray(is_wanted)
    if is_wanted():
        with contextlib.suppress(Exception):
            crew.start(number, batch, deadline_s)
    return crew
