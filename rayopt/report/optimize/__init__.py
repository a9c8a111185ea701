"""What is shown of an `optimize` job; the face that every kind of report has, and nothing heavy to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rayopt.report.optimize.words import headline

TEMPLATE = "optimize.html"


def context(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What its template is given besides summary, plan and headline."""
    from rayopt.report.optimize import cards, figure, rows, words

    found = rows.sheet(summary)
    return {
        "sheet": found,
        "cards": cards.cards(found),
        "choices": [(name, row, words.gains(found, row)) for name, row in rows.choices(summary, found)],
        "endings": rows.endings(summary),
        "figures": figure.views(found),
    }


__all__ = ["TEMPLATE", "context", "headline"]
