"""Which observations a Gaussian process learns from, whose work grows with the cube of their number."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from rayopt.search.history import Observation

MOST = 400


def learnt_from(history: Sequence[Observation], count: int = MOST) -> list[Observation]:
    """All of them up to `count`; of more the best half, a quarter that are the latest, the rest spread evenly.

    In the order in which they came. What is best is decided by the value alone; spread is over all, by when they came.
    """
    if len(history) <= count:
        return list(history)
    good = [(one.value, -place) for place, one in enumerate(history) if not one.failed and one.value is not None]
    kept = {-place for _, place in heapq.nlargest(count // 2, good)}
    kept |= set(range(len(history) - count // 4, len(history)))
    left = count - len(kept)
    kept |= {step * len(history) // left for step in range(left)}
    return [history[place] for place in sorted(kept)]
