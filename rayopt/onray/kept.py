"""The crew that waits on a Ray for the next search or training. It holds CPUs: whoever needs them sends it home."""

from __future__ import annotations

import threading
from typing import Any

_waiting: list[Any] = []
_lock = threading.Lock()


def keep(crew: Any) -> None:
    """Lets a crew wait, in the place of the one that does."""
    with _lock:
        before = [one for one in _waiting if one is not crew]
        _waiting[:] = [crew]
    for one in before:
        one.end()


def take(kind: type[Any]) -> Any:
    """The crew of this kind that waits, which does not wait any more; None where there is none, as others go home."""
    with _lock:
        crew = _waiting.pop() if _waiting else None
    if crew is None or (isinstance(crew, kind) and crew.is_fit):
        return crew
    crew.end()
    return None


def dismiss() -> None:
    """Sends the crew that waits home."""
    with _lock:
        crew = _waiting.pop() if _waiting else None
    if crew is not None:
        crew.end()
