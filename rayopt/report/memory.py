"""The summary of a memory job as rows, plots and the one sentence that says what was planned. Pure, light to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rayopt.report.formats import format_size

Json = Mapping[str, Any]
TEMPLATE = "memory.html"
LAYERS = 20  # that are drawn at most


@dataclass(frozen=True)
class Row:
    """One way to take a step that fits."""

    words: str
    predicted_text: str
    predicted_bytes: int
    step_ms: float
    chosen: bool


@dataclass(frozen=True)
class Sheet:
    """The candidates that fit, the cheapest first; the bytes at the peak by kind, and over the step; by layer."""

    rows: tuple[Row, ...]
    at_peak: Mapping[str, int]
    layers: Mapping[str, int]
    curve: Mapping[str, tuple[int, ...]]
    warnings: tuple[str, ...]


def headline(summary: Json) -> str:
    """What was planned, in one sentence of plain text."""
    plan = summary.get("plan")
    if not plan:
        return f"{summary.get('name', 'run')}: {summary.get('status', 'done')}"
    sentence = f"{words(plan)}: {format_size(summary['predicted_bytes'])} of {format_size(summary['budget_bytes'])}"
    measured = summary.get("measured_bytes")
    if measured:
        sentence += f" predicted, {format_size(measured)} measured"
    rate = summary.get("samples_per_s")
    return sentence + (f"; about {rate:,.0f} samples/s" if rate and summary.get("timed") else "")


def words(plan: Json) -> str:
    """`micro-batches of 64 rows, 4 a step, bf16`."""
    count = plan["accumulation"]
    rows = plan["micro_batch"]
    parts = [f"all {rows} rows at once" if count == 1 else f"{count} micro-batches of {rows} rows"]
    parts.append(plan["precision"] + (" channels last" if plan.get("layout") == "channels_last" else ""))
    parts += ["activations computed again"] if plan["activation_checkpointing"] else []
    parts += {True: ["lists of parameters"], False: ["parameters one by one"], None: []}[plan["foreach"]]
    return ", ".join(parts)


def sheet(summary: Json) -> Sheet:
    """What the page shows; whatever the summary lacks is left out."""
    memory, plan = summary.get("memory") or {}, summary.get("plan") or {}
    rows = [
        Row(
            words(one),
            format_size(one["predicted_bytes"]),
            one["predicted_bytes"],
            1e3 * one["step_s"],
            all(one.get(name) == value for name, value in plan.items()),
        )
        for one in summary.get("candidates") or ()
    ]
    return Sheet(
        tuple(rows),
        memory.get("at_peak") or {},
        memory.get("layers") or {},
        memory.get("curve") or {},
        tuple(summary.get("warnings") or ()),
    )


def context(summary: Json) -> dict[str, Any]:
    """What the page is given besides summary, plan and headline."""
    found = sheet(summary)
    return {"sheet": found, "figures": figures(found)}


def figures(found: Sheet) -> list[dict[str, Any]]:
    """Plotly figures: the bytes by kind over a step, and the activations at its peak by layer."""
    drawn = []
    if found.curve:
        areas = [
            {"type": "scatter", "mode": "none", "stackgroup": "all", "name": kind, "y": list(level)}
            for kind, level in found.curve.items()
            if any(level)
        ]
        layout = {"xaxis": {"title": {"text": "events of a step"}}, "yaxis": {"title": {"text": "bytes"}}}
        drawn.append({"title": "Memory over a step", "data": areas, "layout": layout})
    if found.layers:
        names = list(found.layers)[:LAYERS][::-1]
        bars = {"type": "bar", "orientation": "h", "y": names, "x": [found.layers[name] for name in names]}
        axes: dict[str, Any] = {"xaxis": {"title": {"text": "bytes"}}, "yaxis": {"automargin": True}}
        drawn.append({"title": "Activations at the peak, by layer", "data": [bars], "layout": axes})
    return drawn
