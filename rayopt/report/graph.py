"""The summary of a `graph` run as rows, a plot and the one sentence that says how it ended. Pure, light to import."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rayopt.report.formats import format_count, format_seconds, format_share, format_size

Json = Mapping[str, Any]
TEMPLATE = "graph.html"
ENDED_WELL = ("optimized", "unchanged")


@dataclass(frozen=True)
class Row:
    """One model; texts are "–" where there is no such figure."""

    name: str
    verdict: str
    reason: str
    nodes: str
    nodes_ratio: float | None
    size: str
    size_ratio: float | None
    latency: str
    latency_ratio: float | None
    chain: str
    path: str | None
    fused: str  # of the second model, for this machine alone
    fused_path: str | None


@dataclass(frozen=True)
class Sheet:
    """All models, and where a tool was caught, or what it gave was slower or larger: model, chain, what, reason."""

    rows: tuple[Row, ...]
    caught: tuple[tuple[str, str, str, str], ...]
    left: tuple[tuple[str, str, str], ...]
    unreached: tuple[tuple[str, str, str], ...]
    one_size: tuple[str, ...]


def headline(summary: Json) -> str:
    """How the run ended, in one sentence of plain text."""
    models = summary.get("models") or ()
    status = str(summary.get("status", "done"))
    verdicts = Counter(str(one.get("verdict")) for one in models)
    refused = sum(count for verdict, count in verdicts.items() if verdict not in ENDED_WELL)
    parts = [f"{verdicts['optimized']} of {format_count(len(models), 'model')} optimized"]
    if summary.get("nodes_ratio") is not None and verdicts["optimized"]:
        parts[0] += f" to {format_share(summary['nodes_ratio'])} of all nodes (geometric mean)"
    parts += [f"{verdicts['unchanged']} kept as they are"] if verdicts["unchanged"] else []
    parts += [f"{refused} refused"] if refused else []
    sentence = ", ".join(parts)
    after = f" after {format_seconds(summary['seconds'])}" if summary.get("seconds") is not None else ""
    return sentence if status == "done" else f"{status}{after}; so far {sentence}"


def sheet(summary: Json) -> Sheet:
    """The models of a summary; whatever it lacks is left out."""
    models = summary.get("models") or ()
    caught = [
        (str(one.get("name")), " > ".join(line["chain"]), str(line["what"]), str(line["reason"]))
        for one in models
        for line in one.get("caught") or ()
    ]
    left = [
        (str(one.get("name")), " > ".join(line["chain"]), str(line["reason"]))
        for one in models
        for line in one.get("left") or ()
    ]
    unreached = [
        (str(one.get("name")), str(line["node"]), ", ".join(line["seen"]) or "neither")
        for one in models
        if one.get("verdict") == "optimized"
        for line in one.get("unreached") or ()
    ]
    one_size = tuple(str(one.get("name")) for one in models if one.get("one_size") and one["verdict"] == "optimized")
    return Sheet(tuple(map(_row, models)), tuple(caught), tuple(left), tuple(unreached), one_size)


def context(summary: Json) -> dict[str, Any]:
    """What the page is given besides summary, plan and headline."""
    found = sheet(summary)
    return {"sheet": found, "figures": figures(found)}


def figures(found: Sheet) -> list[dict[str, Any]]:
    """A plotly figure: nodes and latency of every optimised model beside its original's."""
    rows = [row for row in found.rows if row.nodes_ratio is not None and row.latency_ratio is not None]
    if len(rows) < 2:
        return []
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [row.nodes_ratio for row in rows],
        "y": [row.latency_ratio for row in rows],
        "text": [row.name for row in rows],
        "hovertemplate": "%{text}<br>nodes %{x:.2f}, latency %{y:.2f}<extra></extra>",
    }
    axes = {
        "xaxis": {"title": {"text": "nodes, share of the original's"}},
        "yaxis": {"title": {"text": "latency, share"}},
    }
    return [{"title": "Nodes and latency", "data": [trace], "layout": axes}]


def _row(one: Json) -> Row:
    before, after = one.get("nodes_before"), one.get("nodes_after")
    sizes = one.get("size_before"), one.get("size_after")
    ratio = one.get("latency_ratio")
    size_text = "–"
    if sizes[0] and sizes[1]:
        size_text = format_size(sizes[1]) + (f" ({format_share(sizes[1] / sizes[0])})" if sizes[0] != sizes[1] else "")
    return Row(
        name=str(one.get("name")),
        verdict=str(one.get("verdict")),
        reason=str(one.get("reason") or ""),
        nodes="–" if before is None else str(before) if before == after else f"{before} → {after}",
        nodes_ratio=after / before if before and after is not None else None,
        size=size_text,
        size_ratio=sizes[1] / sizes[0] if sizes[0] and sizes[1] else None,
        latency="–" if ratio is None else format_share(ratio),
        latency_ratio=ratio,
        chain=" > ".join(one.get("chain") or ()),
        path=one.get("path"),
        fused=_fused(one.get("fused") or {}),
        fused_path=(one.get("fused") or {}).get("path"),
    )


def _fused(told: Json) -> str:
    if not told:
        return "–"
    ratio = told.get("ratio")
    return format_count(told["nodes"], "node") + (f", latency {format_share(ratio)}" if ratio is not None else "")
