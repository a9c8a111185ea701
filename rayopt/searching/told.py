"""What a search tells as its candidates end: lines of the journal, words for the watcher."""

from __future__ import annotations

import math
import statistics
import threading
from collections.abc import Mapping, Sequence

from rayopt.engine import Desk
from rayopt.records import digest
from rayopt.runs import journal
from rayopt.search.book import HERE
from rayopt.search.cells import Cell, Result, error_of, mean, quantity
from rayopt.search.runner import Progress
from rayopt.searching.ranking import Trial, plain
from rayopt.searching.search import Search
from rayopt.watch import Watcher


class Told(Progress):
    """Passes on what a search does: a line of the journal and a word to the watcher for each candidate."""

    def __init__(self, search: Search, desk: Desk) -> None:
        self._aim, self._metric = search.aim, search.metric
        self._watcher: Watcher = desk.watcher
        self._path = desk.folder.outcomes
        self._known = {line["id"] for line in journal.read(self._path) if "id" in line}
        self._lock = threading.Lock()
        self._open: dict[int, list[tuple[Result, bool]]] = {}
        self._folds = 0
        self._expected = self._count = self._ended = self._round = 0
        self._done: list[Trial] = []
        self._reasons: dict[str, str] = {}
        self._best: float | None = None

    def trials(self) -> list[Trial]:
        """What is finished so far, best first."""
        scored = sorted(
            (one for one in self._done if one["score"] is not None),
            key=lambda one: -self._aim.goals[0].sign * one["score"],
        )
        unscored = [one for one in self._done if one["score"] is None]
        ranked = [{**one, "rank": rank} for rank, one in enumerate(scored, start=1)]
        return [*ranked, *({**one, "rank": None} for one in unscored)]

    def reason(self, id: str) -> str:
        """Why a fold of a candidate failed, empty where none did."""
        return self._reasons.get(id, "")

    def expect(self, count: int) -> None:
        """There will be so many candidates, though they are not known yet."""
        self._expected = count

    def round_read(self, cells: Sequence[Cell]) -> None:
        self._round += 1
        self._open = {}
        self._folds = len({cell.fold for cell in cells})
        self._count = max(self._expected, self._count + len(cells) // max(1, self._folds))
        self._watcher.planned(self._count)

    def crew_joined(self, name: str, seconds: float) -> None:
        self._watcher.backend_started(name, None, seconds)

    def note(self, text: str) -> None:
        self._watcher.note(text)

    def cell_ended(self, cell: Cell, result: Result, cached: bool, left_s: float | None) -> None:
        with self._lock:
            folds = self._open.setdefault(cell.candidate, [])
            folds.append((result, cached))
            if len(folds) == self._folds:
                del self._open[cell.candidate]
                self._candidate_ended(cell, folds, left_s)

    def _candidate_ended(self, cell: Cell, folds: Sequence[tuple[Result, bool]], left_s: float | None) -> None:
        params = plain(cell.parameters)
        scores = [quantity(result, self._metric) for result, _ in folds]
        average = mean(scores)
        odd = next((f"the score of a fold is {one}" for one in scores if not math.isfinite(one)), "")
        odd = odd or ("" if math.isfinite(average) else f"the mean of the scores is {average}")
        score = None if odd else average
        reason = next(filter(None, (error_of(result) for result, _ in folds)), odd)
        trial: Trial = {
            "id": digest([self._round, params])[:12],
            "params": params,
            "score": score,
            "std": statistics.pstdev(scores) if score is not None else None,
            "seconds": round(sum(result["fit_time"] + result["score_time"] for result, _ in folds), 4),
            "status": "failed" if reason else "done",
            "reason": reason,
        }
        self._done.append(trial)
        self._reasons.setdefault(trial["id"], reason)
        if trial["id"] not in self._known:
            self._known.add(trial["id"])
            journal.append(self._path, trial)
        self._ended += 1
        sign = self._aim.goals[0].sign
        if score is not None and (self._best is None or sign * score > sign * self._best):
            self._best = score
        best = {} if self._best is None else {self._metric: self._best}
        self._watcher.candidate(trial["id"], trial["status"], best)
        self._watcher.ended(
            trial["id"], self._words(trial, left_s), trial["status"], trial["reason"], all(one for _, one in folds)
        )

    def _words(self, trial: Trial, left_s: float | None) -> str:
        """`C=1, gamma=0.1: accuracy 0.981 (best so far 0.983, about 3 s left)`."""
        shown = "no score" if trial["score"] is None else f"{self._metric} {trial['score']:.4g}"
        params = ", ".join(f"{name}={value}" for name, value in trial["params"].items())
        return f"{params}: {shown}{so_far(self._best, left_s if self._ended < self._count else None)}"


def so_far(best: float | None, left_s: float | None) -> str:
    """` (best so far 0.983, about 3 s left)`; None: not known."""
    said = [] if best is None else [f"best so far {best:.4g}"]
    if left_s is not None:
        said.append(f"about {left_s:.0f} s left" if left_s >= 1 else "less than a second left")
    return f" ({', '.join(said)})" if said else ""


def who(by: Mapping[str, int], has_ray: bool) -> str:
    """Who has evaluated how many: `12 in this process, 88 by 2 Ray Tune trials`; empty where nobody had to."""
    parts = [f"{count} in this process" if name == HERE else f"{count} by {name}" for name, count in by.items()]
    alone = ", finished before Ray would have paid" if has_ray and set(by) == {HERE} else ""
    return ", ".join(parts) + alone
