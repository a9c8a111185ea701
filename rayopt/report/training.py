"""The summary of a training as curves, figures and the one sentence that says how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rayopt.report.formats import format_count, format_digits, format_score, format_seconds, format_size

Json = Mapping[str, Any]
TEMPLATE = "training.html"


@dataclass(frozen=True)
class Model:
    """One model of a summary with its score on the test split, as text, and where its files are."""

    name: str
    score: float | None
    score_text: str
    size_text: str
    path: str | None


@dataclass(frozen=True)
class Sheet:
    """What a page shows: the models, the epochs, and facts about how it was trained, by name."""

    metric: str
    models: tuple[Model, ...]
    curve: tuple[Json, ...]
    facts: Mapping[str, str]


def headline(summary: Json) -> str:
    """How the training ended, in one sentence of plain text."""
    status, seconds = str(summary.get("status", "done")), summary.get("seconds")
    after = f" after {format_seconds(seconds)}" if seconds is not None else ""
    if status != "done":
        reason = str(summary.get("reason") or "")
        return f"{status}{after}" + (f": {reason}" if reason else "; run it again to go on")
    found = sheet(summary)
    trained = found.models[0] if found.models else None
    told = f"{found.metric} {trained.score_text}" if trained else "trained"
    others = "; ".join(f"{one.name} {one.score_text}" for one in found.models[1:])
    steps = format_count(int(summary.get("steps_count", 0)), "step")
    epochs = format_count(int(summary.get("epochs", 0)), "epoch")
    rate = f", {summary['samples_per_s']:,.0f} samples/s" if summary.get("samples_per_s") else ""
    return f"{told} ({epochs}, {steps}{rate})" + (f"; {others}" if others else "")


def context(summary: Json) -> dict[str, Any]:
    """What the page is given besides summary, plan and headline."""
    found = sheet(summary)
    return {"sheet": found, "figures": figures(found)}


def sheet(summary: Json) -> Sheet:
    """The models and epochs of a summary; whatever it lacks is left out."""
    metric = str(summary.get("metric") or "score")
    own = summary.get("model") or {}
    models = [_model("trained", summary.get("metrics") or {}, metric, own)] if summary.get("metrics") else []
    models += [
        _model(name, one.get("metrics") or {}, metric, one) for name, one in (summary.get("beside") or {}).items()
    ]
    return Sheet(metric, tuple(models), tuple(summary.get("curve") or ()), _facts(summary))


def figures(found: Sheet) -> list[dict[str, Any]]:
    """Plotly figures: losses, the metric, and the learning rate by epoch."""
    if len(found.curve) < 2:
        return []
    losses = [
        _line(found.curve, name, title) for name, title in (("loss", "training"), ("selection_loss", "selection"))
    ]
    made = [("Loss", "loss", [one for one in losses if one]), (found.metric, found.metric, [])]
    metric, rate = _line(found.curve, found.metric, "selection"), _line(found.curve, "lr", "learning rate")
    made[1][2].extend([metric] if metric else [])
    made.append(("Learning rate", "learning rate", [rate] if rate else []))
    return [
        {
            "title": title,
            "data": lines,
            "layout": {"xaxis": {"title": {"text": "epoch"}}, "yaxis": {"title": {"text": axis}}},
        }
        for title, axis, lines in made
        if lines
    ]


def _line(curve: Sequence[Json], name: str, title: str) -> dict[str, Any] | None:
    points = [(one["epoch"], one[name]) for one in curve if name in one]
    if not points:
        return None
    x, y = zip(*points, strict=True)
    return {"type": "scatter", "mode": "lines+markers", "name": title, "x": list(x), "y": list(y)}


def _model(name: str, metrics: Json, metric: str, files: Json) -> Model:
    value = metrics.get(metric)
    text = "not measured"
    if value is not None:
        text = format_score(value, metric)
        low, high, n = (metrics.get(f"{metric}_{part}") for part in ("low", "high", "n"))
        if low is not None and high is not None:
            text += f" ({format_score(low, metric).removesuffix(' %')}–{format_score(high, metric)}, n={n})"
    size = files.get("size_bytes")
    return Model(name, value, text, format_size(size) if size else "", files.get("path"))


def _facts(summary: Json) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("precision", "layout", "workers", "best_epoch", "resumed_at", "not_exported"):
        if summary.get(name):
            found[name.replace("_", " ")] = str(summary[name])
    for one in summary.get("probed") or ():
        found[f"probe: {one['precision']}, {one['layout']}"] = f"{format_digits(one['ms'], 3)} ms a step"
    return found
