"""What is known of a round: which cells are open, who has them, what came of them. For several threads."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from rayopt.errors import WorkError
from rayopt.search.cells import Batch, Broken, Cell, Result, without_score
from rayopt.search.costs import Costs
from rayopt.search.ledger import Ledger
from rayopt.search.means import Progress
from rayopt.search.prefixes import group_of
from rayopt.search.store import Store

HERE = "here"


class Book:
    """The ledger of a round with what its cells cost and gave; results go to the store as they come.

    `by` counts evaluations by who did them. Everything takes `lock`, which is notified of news.
    """

    def __init__(self, batch: Batch, cells: Sequence[Cell], store: Store | None, progress: Progress) -> None:
        self.batch, self.cells, self.progress = batch, cells, progress
        self._store = store
        self.lock = threading.Condition(threading.RLock())
        self.results: dict[int, Result] = {}
        self.by: Counter[str] = Counter()
        self.cached_count = 0
        self.raised: BaseException | None = None
        groups = self._grouped(self._from_store())
        self._ledger = Ledger(groups)
        self._costs = Costs(shares_prefixes="" not in groups)

    @property
    def is_over(self) -> bool:
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
        alone = self._costs.left_s(self._ledger.open_count, self._ledger.fresh_count)
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
                self._record(cell, without_score(self.batch, cell, told, seconds), 1)

    def fail(self, error: BaseException) -> None:
        """Ends the round; the first error is the one that is raised."""
        with self.lock:
            self.raised = self.raised or error
            self.lock.notify_all()

    def _record(self, cell: Cell, result: Result, hands: int) -> None:
        self.results[cell.index] = result
        self.progress.cell_ended(cell, result, False, self.left_s(hands))

    def _from_store(self) -> list[Cell]:
        """The cells that have no result yet."""
        waiting = []
        for cell in self.cells:
            result = self._store.get(self.batch, cell) if self._store else None
            if result is None:
                waiting.append(cell)
                continue
            self.results[cell.index] = result
            self.cached_count += 1
            self.progress.cell_ended(cell, result, True, None)
        return waiting

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
