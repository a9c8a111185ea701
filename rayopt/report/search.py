"""The summary of a search as rows, plots and the one sentence that says how it ended. Pure, and light to import."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rayopt.report import trials
from rayopt.report.formats import format_count, format_digits, format_score, format_seconds
from rayopt.report.parallel import parallel

Json = Mapping[str, Any]
TEMPLATE = "search.html"
PLOTTED = 2000  # candidates that are drawn at most


@dataclass(frozen=True)
class Row:
    """One candidate; `rank` and `score` are None where it has no score, and `reason` may say why."""

    rank: int | None
    params: Mapping[str, Any]
    params_text: str
    score: float | None
    score_text: str
    seconds: float
    reason: str


@dataclass(frozen=True)
class Sheet:
    """The candidates, best first, and the names of the parameters that differ among them."""

    metric: str
    rows: tuple[Row, ...]
    names: tuple[str, ...]

    @property
    def best(self) -> Row | None:
        """The one that was chosen; of halving the best of the last round, whatever rank the first ones gave it."""
        return self.rows[0] if self.rows and self.rows[0].rank is not None else None


def headline(summary: Json) -> str:
    """How the search ended, in one sentence of plain text."""
    status, seconds = str(summary.get("status", "done")), summary.get("seconds")
    after = f" after {format_seconds(seconds)}" if seconds is not None else ""
    if status == "failed":
        reason = str(summary.get("reason") or "")
        return f"failed{after}" + (f": {reason}" if reason else "")
    found = sheet(summary)
    best = found.best
    if best is None:
        return f"{summary.get('name', 'run')}: {status}{after}"
    count = format_count(len(found.rows), "candidate")
    folds = f", {format_count(summary['folds'], 'fold')}" if summary.get("folds") else ""
    sentence = f"best {found.metric} {best.score_text} ({count}{folds}): {best.params_text}"
    if summary.get("front"):
        sentence += f"; {format_count(len(summary['front']), 'trial')} on the front"
    test = summary.get("test")
    if test:
        score = "no score" if test["score"] is None else format_score(test["score"], found.metric)
        sentence += f"; {score} on {test['n']} rows that took no part"
        sentence += f" ({test['reason']})" if test.get("reason") else ""
    return sentence if status == "done" else f"{status}{after}; so far {sentence}"


def sheet(summary: Json) -> Sheet:
    """The candidates of a summary; whatever it lacks is left out."""
    metric = str(summary.get("metric") or "score")
    trials = summary.get("trials") or ()
    names = _differing([trial.get("params") or {} for trial in trials])
    return Sheet(metric, tuple(_row(trial, metric, names) for trial in trials), names)


def context(summary: Json) -> dict[str, Any]:
    """What the page is given besides summary, plan and headline."""
    found = sheet(summary)
    return {
        "sheet": found,
        "figures": [*figures(found), *trials.figures(summary)],
        "outcomes": trials.outcomes(summary),
    }


def figures(found: Sheet) -> list[dict[str, Any]]:
    """Plotly figures: the scores in the order of their parameters, and parallel coordinates."""
    scored = [row for row in found.rows if row.score is not None][:PLOTTED]
    if len(scored) < 2:
        return []
    costs = {
        "data": [
            {
                "type": "scatter",
                "mode": "markers",
                "x": [row.seconds for row in scored],
                "y": [row.score for row in scored],
                "text": [row.params_text for row in scored],
                "hovertemplate": "%{text}<br>%{y:.4g}, %{x:.3g} s<extra></extra>",
            }
        ],
        "layout": {"xaxis": {"title": {"text": "cost, s"}, "type": "log"}, "yaxis": {"title": {"text": found.metric}}},
    }
    axes = [axis for name in found.names if (axis := _axis(name, scored))]
    titled: list[tuple[str, dict[str, Any]]] = [("Score and cost", costs)]
    if axes:
        scores = [float(row.score) for row in scored if row.score is not None]
        lines = [*axes, {"label": found.metric, "values": scores}]
        texts = [f"{row.params_text}: {row.score_text}" for row in scored]
        titled.append(("Parameters", parallel(lines, scores, texts)))
    return [{"title": title, **figure} for title, figure in titled]


def _differing(params: Sequence[Json]) -> tuple[str, ...]:
    """The names that do not have one value everywhere; all of them where there is one candidate."""
    names = dict.fromkeys(name for one in params for name in one)
    different = [name for name in names if any(one.get(name) != params[0].get(name) for one in params[1:])]
    return tuple(different or names)


def _row(trial: Json, metric: str, names: Sequence[str]) -> Row:
    params, score, std = dict(trial.get("params") or {}), trial.get("score"), trial.get("std")
    text = "no score"
    if score is not None:
        text = format_score(score, metric)
        if std is not None:
            spread = f"{std * 100:.1f}" if metric == "accuracy" else format_digits(std, 2)
            text = f"{text.removesuffix(' %')} ± {spread}" + (" %" if text.endswith(" %") else "")
    return Row(
        rank=trial.get("rank"),
        params=params,
        params_text=", ".join(f"{name}={_shown(params[name])}" for name in names if name in params) or "as given",
        score=score,
        score_text=text,
        seconds=float(trial.get("seconds") or 0),
        reason=str(trial.get("reason") or ""),
    )


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _axis(name: str, rows: Sequence[Row]) -> dict[str, Any] | None:
    """One axis of parallel coordinates, None for a parameter that is the same everywhere; log over decades."""
    given = [row.params.get(name) for row in rows]
    different = list(dict.fromkeys(map(_shown, given)))
    if len(different) < 2:
        return None
    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in given):
        values = [float(one) for one in given if isinstance(one, int | float)]
        if min(values) > 0 and max(values) / min(values) >= 100:  # decades
            powers = [math.log10(one) for one in values]
            ticks = sorted(set(powers))[:: max(1, len(set(powers)) // 8)]
            return {"label": name, "values": powers, "tickvals": ticks, "ticktext": [f"{10**one:.4g}" for one in ticks]}
        return {"label": name, "values": values}
    places = {text: number for number, text in enumerate(different)}
    numbers = [places[_shown(one)] for one in given]
    return {"label": name, "values": numbers, "tickvals": list(places.values()), "ticktext": different}
