"""What is known of a round: which cells are open, who has them, what came of them. For several threads."""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from rayopt.errors import WorkError
from rayopt.search.cells import Batch, Broken, Cell, Result, without_score
from rayopt.search.costs import Costs
from rayopt.search.ledger import Ledger
from rayopt.search.means import Growth, Progress
from rayopt.search.prefixes import group_of
from rayopt.search.store import Store

HERE = "here"


class Book:
    """The ledger of a round with what its cells cost and gave; results go to the store as they come.

    `by` counts evaluations by who did them. Everything takes `lock`, which is notified of news.
    """

    def __init__(
        self,
        batch: Batch,
        cells: Sequence[Cell],
        store: Store | None = None,
        progress: Progress | None = None,
        growth: Growth | None = None,
    ) -> None:
        self.batch, self.cells, self.progress = batch, list(cells), progress or Progress()
        self._store, self._growth = store, growth or Growth()
        self._news: deque[tuple[Cell, Result]] = deque()
        self.lock = threading.Condition(threading.RLock())
        self.results: dict[int, Result] = {}
        self.by: Counter[str] = Counter()
        self.cached_count = 0
        self.raised: BaseException | None = None
        self._ledger = Ledger({})
        self._costs = Costs(batch.share_prefixes and bool(group_of(batch.estimator)))
        with self.lock:
            self._ledger.add(self._grouped(self._from_store(cells)))

    @property
    def is_over(self) -> bool:
        with self.lock:  # what a result adds is added before the lock is free
            return self._ledger.is_finished or self.raised is not None

    @property
    def waiting_count(self) -> int:
        return self._ledger.waiting_count

    @property
    def mean_s(self) -> float | None:
        return self._costs.mean_s

    def in_hand(self, worker: str) -> int:
        return self._ledger.in_hand(worker)

    def take(self, worker: str, count: int, suspects: bool = True) -> list[Cell]:
        """Cells for a worker; it helps with what another has begun only where that is done sooner so."""
        pays_from = math.ceil(self._costs.beginning_s / mean) if (mean := self.mean_s) else 0
        return [self.cells[index] for index in self._ledger.take(worker, count, suspects, pays_from)]

    def left_s(self, hands: int) -> float | None:
        """About how long the rest takes so many workers; None where it is not known yet."""
        to_come = self._growth.to_come() * len(self.batch.splits)
        alone = self._costs.left_s(self._ledger.open_count + to_come, self._ledger.fresh_count)
        return None if alone is None else alone / max(1, hands)

    def take_in(self, worker: str, by: str, answers: Sequence[tuple[int, Any]], seconds: float, hands: int) -> None:
        """What a worker has found out in so many seconds."""
        with self.lock:
            begins = any(self._ledger.begins(worker, index) for index, _ in answers)
            self._costs.note(seconds, len(answers), begins)
            for index, result in answers:
                if isinstance(result, Broken):
                    self.fail(result.error)
                elif self._ledger.finish(worker, index):
                    self.by[by] += 1
                    if self._store:
                        self._store.put(self.batch, self.cells[index], result)
                    self._record(self.cells[index], result, hands)
            self.lock.notify_all()

    def give_back(self, worker: str) -> None:
        self._ledger.give_back(worker)

    def lose(self, worker: str, reason: str, seconds: float, deadline_s: float | None) -> None:
        """A worker is gone; its cells are tried again, but for one that took too long or ends every worker."""
        late = deadline_s is not None and seconds >= deadline_s
        told = f"the evaluation took longer than {deadline_s:g} s" if late else f"its worker died twice: {reason}"
        for index in self._ledger.lose(worker, final=late):
            cell = self.cells[index]
            if self.batch.error_score == "raise":
                self.fail(WorkError(f"{dict(cell.parameters)} on fold {cell.fold}: {told}"))
            else:
                result = without_score(self.batch, cell, told, seconds)
                if late and self._store:
                    self._store.put_late(self.batch, cell, result)
                self._record(cell, result, 1)

    def fail(self, error: BaseException) -> None:
        """Ends the round; the first error is the one that is raised."""
        with self.lock:
            self.raised = self.raised or error
            self.lock.notify_all()

    def _record(self, cell: Cell, result: Result, hands: int) -> None:
        self.results[cell.index] = result
        self.progress.cell_ended(cell, result, False, self.left_s(hands))
        self._grow(cell, result)

    def _from_store(self, cells: Sequence[Cell]) -> list[Cell]:
        """The cells that have no result yet."""
        waiting = []
        for cell in cells:
            result = self._store.get(self.batch, cell) if self._store else None
            if result is None:
                waiting.append(cell)
                continue
            self.results[cell.index] = result
            self.cached_count += 1
            self.progress.cell_ended(cell, result, True, None)
            self._grow(cell, result)
        return waiting

    def _grow(self, cell: Cell, result: Result) -> None:
        """Takes in the candidates that follow from a result; those of them in the store have results at once."""
        self._news.append((cell, result))
        if len(self._news) > 1:  # whoever is at it goes on with this one
            return
        while self._news:
            for parameters in self._growth.after(*self._news[0]):
                first, candidate = len(self.cells), self.cells[-1].candidate + 1
                more = [Cell(first + fold, candidate, fold, parameters) for fold in range(len(self.batch.splits))]
                self.cells += more
                self._ledger.add(self._grouped(self._from_store(more)))
            self._news.popleft()

    def _grouped(self, cells: Sequence[Cell]) -> dict[Hashable, list[int]]:
        """Cells that share the beginning of a pipeline, fold by fold; all in one group where nothing is shared."""
        groups: dict[Hashable, list[int]] = {}
        for cell in cells:
            prefix = group_of(self.batch.estimator, cell.parameters) if self.batch.share_prefixes else ""
            groups.setdefault(f"{prefix} on fold {cell.fold}" if prefix else "", []).append(cell.index)
        return groups


def told_seconds(answers: Sequence[tuple[int, Any]]) -> float:
    """What the evaluations themselves say that they took, plus a little for what is around them."""
    times = (one["fit_time"] + one["score_time"] + 0.0005 for _, one in answers if isinstance(one, Mapping))
    return float(sum(times))
