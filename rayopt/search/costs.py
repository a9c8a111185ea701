"""How long cells take, and so how long the rest of a round will: pure, told of everything that is timed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class _Mean:
    seconds: float = 0.0
    count: int = 0

    @property
    def value(self) -> float | None:
        return self.seconds / self.count if self.count else None


class Costs:
    """Where cells share the beginning of a pipeline, the first of a group fits it, and says little of the others."""

    def __init__(self, shares_prefixes: bool) -> None:
        self._shares = shares_prefixes
        self._first, self._other = _Mean(), _Mean()

    def note(self, seconds: float, count: int, is_first: bool = False) -> None:
        """That `count` cells took so long together; `is_first`: one of them began a group."""
        mean = self._first if is_first and self._shares else self._other
        mean.seconds += seconds
        mean.count += count

    @property
    def mean_s(self) -> float | None:
        """Of a cell that begins no group; None where nothing is known."""
        return self._other.value

    @property
    def beginning_s(self) -> float:
        """What beginning a group costs beside its first cell; 0 where that is not known."""
        first, other = self._first.value, self._other.value
        return 0.0 if first is None or other is None else max(0.0, first - other)

    def left_s(self, count: int, fresh_groups: int) -> float | None:
        """How long `count` cells take one worker, so many groups of them not begun; None where it is not known yet."""
        if not count:
            return 0.0
        if self._other.value is None:
            return None
        fresh = min(fresh_groups, count) if self._shares else 0
        first = self._other.value if self._first.value is None else self._first.value
        return fresh * first + (count - fresh) * self._other.value
