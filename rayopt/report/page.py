"""The report of a run as one HTML page that needs nothing from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def render(summary: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    """The page for a summary and the plan it came from."""
    return f"<!doctype html><title>{summary['name']}: {plan['kind']}</title>"
