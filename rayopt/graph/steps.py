"""Pieces of work in a child, each told before it begins: who watches knows which one the child died in.

What an earlier child has done, or has died of, is known by key and not done again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayopt.errors import StepError
from rayopt.graph.nursery import Tell, limit_cpu
from rayopt.graph.verdicts import Refused


@dataclass(frozen=True)
class Steps:
    """`known`: by key `{"value": ...}`, or `{"failed": reason, "verdict": ...}`. `folder`: for files of this work."""

    folder: Path
    known: Mapping[str, Mapping[str, Any]]
    tell: Tell

    def do(self, key: str, cpu_s: float, work: Callable[[], Any], remember: bool = True) -> Any:
        """The JSON-able value of `work()`, or what is known of it; raises StepError with the reason where it failed."""
        known = self.known.get(key)
        if known is not None and "failed" in known:
            if known.get("verdict"):
                raise Refused(known["verdict"], known["failed"])
            raise StepError(known["failed"])
        if known is not None and remember:
            return known["value"]
        limit_cpu(cpu_s)
        self.tell({"step": key, "cpu_s": cpu_s})
        try:
            value = work()
        except Exception as error:
            lines = str(error).strip().splitlines()
            reason = lines[0][:200] if lines else type(error).__name__
            if not isinstance(error, StepError):
                reason = f"{type(error).__name__}: {reason}" if lines else reason
            verdict = error.verdict if isinstance(error, Refused) else ""
            self.tell({"failed": key, "reason": reason, "verdict": verdict})
            if isinstance(error, StepError):
                raise
            raise StepError(reason) from error
        self.tell({"done": key, "value": value if remember else None})
        return value
