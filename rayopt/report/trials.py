"""What only a search with a strategy has to show: how it went on, which parameters matter, and the front. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]
SHOWN = 200


def figures(summary: Json) -> list[dict[str, Any]]:
    """Plotly figures, each where the summary has what it shows."""
    trials = sorted((one for one in summary.get("trials") or () if one.get("number")), key=lambda one: one["number"])
    made = [("Front", _front(summary, trials)), ("History", _history(summary, trials))]
    made.append(("Importance of the parameters", _importance(summary.get("importance") or {})))
    return [{"title": title, **figure} for title, figure in made if figure is not None]


def outcomes(summary: Json) -> dict[str, Any] | None:
    """The trials on the front, and those that failed or break a constraint, with why; None where there are none."""
    front = list(summary.get("front") or ())
    trials = {one["id"]: one for one in summary.get("trials") or () if "number" in one}
    left = [one for one in trials.values() if one["id"] not in front and not one.get("allowed", True)]
    metrics = list(dict.fromkeys(name for one in trials.values() for name in one.get("metrics") or {}))
    rows = [_row(trials[id], "on the front", metrics) for id in front if id in trials]
    rows += [_row(one, one.get("reason") or "outside of the constraints", metrics) for one in left[:SHOWN]]
    return {"rows": rows, "metrics": metrics} if rows else None


def _row(trial: Json, status: str, metrics: Sequence[str]) -> dict[str, Any]:
    found = trial.get("metrics") or {}
    params = ", ".join(f"{name}={_shown(value)}" for name, value in (trial.get("params") or {}).items())
    return {
        "number": trial["number"],
        "status": status,
        "metrics": [found.get(name) for name in metrics],
        "params": params,
    }


def _front(summary: Json, trials: Sequence[Json]) -> dict[str, Any] | None:
    """The first two objectives against each other; the front as a line."""
    goals = [goal["metric"] for goal in summary.get("objectives") or ()]
    front = set(summary.get("front") or ())
    if len(goals) < 2 or not front:
        return None
    first, second = goals[:2]
    shown = [one for one in trials if first in one["metrics"] and second in one["metrics"]]
    best = sorted((one for one in shown if one["id"] in front), key=lambda one: float(one["metrics"][second]))
    data = [
        _points("other trials", [one for one in shown if one["id"] not in front], first, second, "markers"),
        _points("front", best, first, second, "lines+markers"),
    ]
    return {"data": data, "layout": {"xaxis": {"title": {"text": second}}, "yaxis": {"title": {"text": first}}}}


def _points(name: str, trials: Sequence[Json], first: str, second: str, mode: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": mode,
        "name": name,
        "x": [one["metrics"][second] for one in trials],
        "y": [one["metrics"][first] for one in trials],
        "text": [str(one["number"]) for one in trials],
        "hovertemplate": "trial %{text}<br>%{y:.5g}, %{x:.5g}<extra></extra>",
    }


def _history(summary: Json, trials: Sequence[Json]) -> dict[str, Any] | None:
    """Each trial's score in the order in which they came, and the best of those that are allowed so far."""
    scored = [one for one in trials if one.get("score") is not None]
    if len(scored) < 2:
        return None
    sign = -1 if summary.get("direction") == "min" else 1
    best, so_far = -math.inf, list[float | None]()
    for one in scored:
        best = max(best, sign * one["score"]) if one.get("allowed", True) else best
        so_far.append(None if math.isinf(best) else sign * best)
    numbers = [one["number"] for one in scored]
    each = {"type": "scatter", "mode": "markers", "name": "trial", "x": numbers, "y": [one["score"] for one in scored]}
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": "best so far",
        "line": {"shape": "hv"},
        "x": numbers,
        "y": so_far,
    }
    metric = str(summary.get("metric") or "score")
    return {
        "data": [each, line],
        "layout": {"xaxis": {"title": {"text": "trial"}}, "yaxis": {"title": {"text": metric}}},
    }


def _importance(shares: Mapping[str, float]) -> dict[str, Any] | None:
    if len(shares) < 2:
        return None
    ranked = sorted(shares.items(), key=lambda one: one[1])
    bars = {"type": "bar", "orientation": "h", "x": [share for _, share in ranked], "y": [name for name, _ in ranked]}
    title = "share of the variation in which it has a part"
    return {"data": [bars], "layout": {"xaxis": {"title": {"text": title}}, "yaxis": {"automargin": True}}}


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
