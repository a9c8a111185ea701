"""What is not the same in two records, in a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

MOST = 5


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """`epochs was 3, is 4; data.source was "a.npz", is "b.npz"`; empty where nothing differs. Both are JSON-able."""
    told = [f"{name} was {_short(one)}, is {_short(other)}" for name, one, other in _changed("", before, now)]
    more = f"; and {len(told) - MOST} more" if len(told) > MOST else ""
    return "; ".join(told[:MOST]) + more


def _changed(at: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in sorted({*before, *now}):
            yield from _changed(f"{at}.{name}" if at else str(name), before.get(name), now.get(name))
    elif before != now:
        yield at, before, now


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
