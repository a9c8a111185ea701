"""Own passes are one step of a chain: where its result is wrong, the passes to blame are found and left out.

Else a single wrong rewrite would cost a model all others as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

MOST = 3


def suspects(names: Sequence[str], is_right: Callable[[Sequence[str]], bool]) -> tuple[str, ...] | None:
    """The passes without which the others are right, MOST at most; None where that is not enough.

    `names` together are wrong, none of them is right; the last of the shortest beginning that is wrong is to blame.
    """
    left, found = list(names), list[str]()
    while left and len(found) < MOST:
        found.append(left.pop(_wrong_from(left, is_right) - 1))
        if not left or is_right(left):
            return tuple(found)
    return None


def _wrong_from(names: Sequence[str], is_right: Callable[[Sequence[str]], bool]) -> int:
    """The length of a beginning that is wrong, where the next shorter one is right."""
    right, wrong = 0, len(names)
    while wrong - right > 1:
        middle = (right + wrong) // 2
        right, wrong = (middle, wrong) if is_right(names[:middle]) else (right, middle)
    return wrong
