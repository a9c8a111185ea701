"""Who has which cell, and who gets which next: pure, told of everything that happens, without clock or I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

ALONE_LOSSES = 2  # a cell whose worker dies so often with nothing else in hand is given up


@dataclass
class _Hand:
    """What a worker holds, oldest first, and the group that it keeps to."""

    cells: list[int] = field(default_factory=list)
    group: Hashable = None
    alone: bool = False


class Ledger:
    """Cells by group. A worker stays with its group, for what it has fitted there, and then helps with the largest.

    When a worker is lost its cells are tried again one at a time, so that the one that ended it is found.
    """

    def __init__(self, groups: Mapping[Hashable, Sequence[int]]) -> None:
        self._waiting: dict[Hashable, deque[int]] = {}
        self._hands: dict[Hashable, _Hand] = {}
        self._suspects: deque[int] = deque()
        self._losses: dict[int, int] = {}
        self._open: set[int] = set()
        self.add(groups)

    def add(self, groups: Mapping[Hashable, Sequence[int]]) -> None:
        """More cells, by group."""
        for group, cells in groups.items():
            if cells:
                self._waiting.setdefault(group, deque()).extend(cells)
                self._open.update(cells)

    @property
    def is_finished(self) -> bool:
        return not self._open

    @property
    def open_count(self) -> int:
        return len(self._open)

    @property
    def waiting_count(self) -> int:
        return sum(map(len, self._waiting.values())) + len(self._suspects)

    def in_hand(self, worker: Hashable) -> int:
        return len(self._hands[worker].cells) if worker in self._hands else 0

    def take(self, worker: Hashable, count: int, suspects: bool = True) -> list[int]:
        """At most `count` cells for a worker; a suspect is given alone, and never to one that may not die."""
        hand = self._hands.setdefault(worker, _Hand())
        if hand.alone:
            return []
        if suspects and self._suspects:
            if hand.cells:
                return []
            hand.cells, hand.alone = [self._suspects.popleft()], True
            return list(hand.cells)
        group = self._group_for(hand)
        if group is None:
            return []
        waiting = self._waiting[group]
        taken = [waiting.popleft() for _ in range(min(count, len(waiting)))]
        if not waiting:
            del self._waiting[group]
        hand.cells += taken
        return taken

    def finish(self, worker: Hashable, index: int) -> bool:
        """Whether the result is news: a worker that was taken for lost may still send one."""
        hand = self._hands.get(worker)
        if hand is not None and index in hand.cells:
            hand.cells.remove(index)
            hand.alone = hand.alone and bool(hand.cells)
        is_news = index in self._open
        self._open.discard(index)
        if is_news:
            self._forget(index)
        return is_news

    def give_back(self, worker: Hashable) -> None:
        """A worker leaves in peace; what it had not finished waits again."""
        hand = self._hands.pop(worker, _Hand())
        left = [index for index in hand.cells if index in self._open]
        if hand.alone:
            self._suspects.extendleft(left)
        elif left:
            self._waiting.setdefault(hand.group, deque()).extendleft(reversed(left))

    def lose(self, worker: Hashable, final: bool = False) -> list[int]:
        """A worker is gone with what it held; gives the cells that are given up. `final`: without another try."""
        hand = self._hands.pop(worker, _Hand())
        given_up = []
        for index in (one for one in hand.cells if one in self._open):
            if len(hand.cells) == 1:
                self._losses[index] = self._losses.get(index, 0) + 1
            if final or self._losses.get(index, 0) >= ALONE_LOSSES:
                self._open.discard(index)
                given_up.append(index)
            else:
                self._suspects.append(index)
        return given_up

    def _group_for(self, hand: _Hand) -> Hashable | None:
        if hand.group in self._waiting:
            return hand.group
        if not self._waiting:
            return None
        taken = {other.group for other in self._hands.values()}
        fresh = next((group for group in self._waiting if group not in taken), None)
        hand.group = fresh if fresh is not None else max(self._waiting, key=lambda group: len(self._waiting[group]))
        return hand.group

    def _forget(self, index: int) -> None:
        """A cell that another has finished meanwhile need not be tried again."""
        if index in self._suspects:
            self._suspects.remove(index)
        for group, waiting in list(self._waiting.items()):
            if index in waiting:
                waiting.remove(index)
                if not waiting:
                    del self._waiting[group]
