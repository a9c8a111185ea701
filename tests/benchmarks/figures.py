"""What a benchmark has found beside what was asked for: a line for each figure, and the same for its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A value, and the least of it that was asked for, or the most."""

    name: str
    value: float
    wanted: float
    is_limit: bool = False  # `wanted` is the most, not the least

    @property
    def is_reached(self) -> bool:
        return self.value <= self.wanted if self.is_limit else self.value >= self.wanted

    def __str__(self) -> str:
        sign = "<=" if self.is_limit else ">="
        return f"{'reached' if self.is_reached else 'MISSED':8} {self.name}: {self.value:.4g} ({sign} {self.wanted:g})"


def show(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """Prints the figures, and gives them as JSON has them."""
    for one in figures:
        print(one, flush=True)
    return [{"name": one.name, "value": one.value, "wanted": one.wanted, "reached": one.is_reached} for one in figures]
