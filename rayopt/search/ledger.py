"""Who has which cell, and who gets which next: pure, told of everything that happens, without clock or I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

ALONE_LOSSES = 2  # a cell whose worker dies so often with nothing else in hand is given up


@dataclass
class _Hand:
    """What a worker holds, oldest first, the group that it keeps to, and the cells with which it began one."""

    cells: list[int] = field(default_factory=list)
    group: Hashable = None
    alone: bool = False
    firsts: set[int] = field(default_factory=set)


class Ledger:
    """Cells by group. A worker stays with its group, for what it has fitted there, and then helps with the largest.

    When a worker is lost its cells are tried again one at a time, so that the one that ended it is found.
    """

    def __init__(self, groups: Mapping[Hashable, Sequence[int]]) -> None:
        self._waiting: dict[Hashable, deque[int]] = {}
        self._waiting_count = 0  # in all groups: there may be as many of them as cells
        self._hands: dict[Hashable, _Hand] = {}
        self._groups: set[Hashable] = set()
        self._fresh: set[Hashable] = set()
        self._suspects: deque[int] = deque()
        self._losses: dict[int, int] = {}
        self._open: set[int] = set()
        self.add(groups)

    def add(self, groups: Mapping[Hashable, Sequence[int]]) -> None:
        """More cells, by group."""
        for group, cells in groups.items():
            if cells:
                if group not in self._groups:
                    self._groups.add(group)
                    self._fresh.add(group)
                self._waiting.setdefault(group, deque()).extend(cells)
                self._waiting_count += len(cells)
                self._open.update(cells)

    @property
    def is_finished(self) -> bool:
        return not self._open

    @property
    def open_count(self) -> int:
        return len(self._open)

    @property
    def waiting_count(self) -> int:
        return self._waiting_count + len(self._suspects)

    @property
    def fresh_count(self) -> int:
        """Groups that nobody has begun."""
        return len(self._fresh)

    def begins(self, worker: Hashable, index: int) -> bool:
        """Whether the worker began a group with this cell."""
        return worker in self._hands and index in self._hands[worker].firsts

    def in_hand(self, worker: Hashable) -> int:
        return len(self._hands[worker].cells) if worker in self._hands else 0

    def take(self, worker: Hashable, count: int, suspects: bool = True, pays_from: int = 0) -> list[int]:
        """At most `count` cells for a worker; a suspect is given alone, and never to one that may not die.

        pays_from: a group that another works on is joined only if more cells of it than that are waiting.
        """
        hand = self._hands.setdefault(worker, _Hand())
        if hand.alone:
            return []
        if suspects and self._suspects:
            if hand.cells:
                return []
            hand.cells, hand.alone = [self._suspects.popleft()], True
            return list(hand.cells)
        before = hand.group
        group = self._group_for(worker, hand, pays_from)
        if group is None:
            return []
        waiting = self._waiting[group]
        taken = [waiting.popleft() for _ in range(min(count, len(waiting)))]
        self._waiting_count -= len(taken)
        if not waiting:
            del self._waiting[group]
        if group != before or group in self._fresh:
            hand.firsts.add(taken[0])
        self._fresh.discard(group)
        hand.cells += taken
        return taken

    def finish(self, worker: Hashable, index: int) -> bool:
        """Whether the result is news: a worker that was taken for lost may still send one."""
        hand = self._hands.get(worker)
        is_held = hand is not None and index in hand.cells
        if hand is not None and is_held:
            hand.cells.remove(index)
            hand.alone = hand.alone and bool(hand.cells)
        is_news = index in self._open
        self._open.discard(index)
        if is_news and not is_held:
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
            self._waiting_count += len(left)

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

    def _group_for(self, worker: Hashable, hand: _Hand, pays_from: int) -> Hashable | None:
        if hand.group in self._waiting:
            return hand.group
        if not self._waiting:
            return None
        taken = {other.group for name, other in self._hands.items() if name != worker}
        free = next((group for group in self._waiting if group not in taken), None)
        if free is None:
            free = max(self._waiting, key=lambda group: len(self._waiting[group]))
            if len(self._waiting[free]) <= pays_from:
                return None
        hand.group = free
        return free

    def _forget(self, index: int) -> None:
        """A cell that another has finished meanwhile need not be tried again."""
        if index in self._suspects:
            self._suspects.remove(index)
        for group, waiting in list(self._waiting.items()):
            if index in waiting:
                waiting.remove(index)
                self._waiting_count -= 1
                if not waiting:
                    del self._waiting[group]
