"""The trade-offs of a run as plotly figures, one for each pair of axes worth a look.

Figures are plain dicts. Colors are names of the page's CSS properties, such as `var(--front)`: the page puts in what
they are in light, in dark and in print.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rayopt.report.formats import format_ms, format_score, format_size
from rayopt.report.optimize.axes import Axis, Scale, layout, scale_of
from rayopt.report.optimize.rows import Interval, Row, Sheet
from rayopt.report.optimize.words import format_ratio, format_score_interval

LABELS = {
    "recommended": "recommended",
    "front": "on the front",
    "baseline": "baseline",
    "beaten": "beaten by another",
    "slower": "not faster at some batch size",
    "larger": "larger than the baseline",
    "budget": "over the {metric} budget",
    "untimed": "not timed",
    "other": "other",
}
SYMBOLS = {
    "recommended": "star",
    "front": "circle",
    "baseline": "square",
    "beaten": "circle-open",
    "slower": "triangle-up-open",
    "larger": "pentagon-open",
    "budget": "x",
    "untimed": "diamond-open",
    "other": "hexagon-open",
}
LONGEST_NAME, HOVER_WIDTH = 22, 48  # in characters: a title that is too long is cut at both ends of its axis
LARGEST_PX, SMALLEST_PX = 36, 12


def views(found: Sheet) -> list[dict[str, Any]]:
    """The figures with labels for choosing among them; first the metric by latency at the largest batch size."""
    score, size = _score_axis(found), _size_axis(found)
    latencies = {batch: _latency_axis(batch) for batch in reversed(found.batch_sizes)}
    pairs = [(f"{found.metric} by latency, batch {batch}", axis, score) for batch, axis in latencies.items()]
    pairs.append((f"{found.metric} by size", size, score))
    pairs += [(f"size by latency, batch {batch}", axis, size) for batch, axis in list(latencies.items())[:1]]
    made = [{"label": label, **figure(found, x, y)} for label, x, y in pairs]
    return [view for view in made if view["data"]]


def figure(found: Sheet, x: Axis, y: Axis) -> dict[str, Any]:
    """One plotly figure: a trace for each verdict, a line through the front, and the limits."""
    rows = [row for row in found.rows if row.group != "same" and x.read(row) and y.read(row)]
    if not rows:
        return {"data": [], "layout": {}}
    across, up = scale_of(x, rows), scale_of(y, rows)
    groups = groupby(rows, lambda row: row.group)
    traces = [_trace(found, group, list(members), x, y) for group, members in groups]
    for trace in traces:
        _label(trace, across)
    line = _front_line([row for row in rows if row.group in ("recommended", "front")], x, y)
    return {"data": [*line, *traces], "layout": layout(x, y, across, up)}


def _score_axis(found: Sheet) -> Axis:
    """The metric on the split that all models were scored on and that chose among them."""
    base = found.baseline.selection if found.baseline else None
    sign = -1 if found.higher_is_better else 1
    return Axis(
        title=f"{_name(found)}, selection split",
        unit="share" if found.metric == "accuracy" else "number",
        read=lambda row: row.selection,
        limit=base.value + sign * found.max_drop if base else None,
        limit_label=f"{_name(found)} budget",
        higher_is_better=found.higher_is_better,
    )


def _latency_axis(batch: str) -> Axis:
    title = f"relative latency, batch {batch}"
    return Axis(title, "ratio", lambda row: row.ratio(batch), 1.0, "as fast as the baseline")


def _size_axis(found: Sheet) -> Axis:
    limit = found.baseline.size_bytes if found.baseline else None
    return Axis("size", "bytes", lambda row: Interval(row.size_bytes), limit, "as large as the baseline")


def _trace(found: Sheet, group: str, rows: list[Row], x: Axis, y: Axis) -> dict[str, Any]:
    color = f"var(--{group})"
    largest = max(row.size_bytes for row in found.rows)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": _legend(found, group, rows),
        "zorder": len(LABELS) - list(LABELS).index(group),
        **_points("x", rows, x, color),
        **_points("y", rows, y, color),
        "hovertext": [_hover(row, found) for row in rows],
        "hoverinfo": "text",
        "marker": {
            "symbol": SYMBOLS[group],
            "color": color,
            "size": [_diameter(row.size_bytes / largest, group) for row in rows],
            "line": {"width": 2 if SYMBOLS[group].endswith("open") else 1, "color": _outline(group, color)},
            "opacity": 1,
        },
    }


def _legend(found: Sheet, group: str, rows: list[Row]) -> str:
    """What a symbol stands for; a verdict that has no group of its own stands for itself."""
    verdicts = {row.verdict for row in rows}
    if group == "other" and len(verdicts) == 1:
        return _plain(_short(verdicts.pop()))
    return LABELS[group].format(metric=_name(found))


def _label(trace: dict[str, Any], across: Scale) -> None:
    """Writes the names of the two that everyone looks for beside their points, towards the middle of the plot."""
    if trace["name"] not in (LABELS["recommended"], LABELS["baseline"]):
        return
    share = across.share(trace["x"][0])
    side = "right" if share < 1 / 3 else "left" if share > 2 / 3 else "center"
    trace |= {
        "mode": "markers+text",
        "text": [trace["name"]],
        "textposition": f"top {side}",
        "textfont": {"color": trace["marker"]["color"], "size": 12},
    }


def _points(letter: str, rows: Sequence[Row], axis: Axis, color: str) -> dict[str, Any]:
    """The coordinates of one axis with the distances to both ends of their intervals."""
    points = [point for row in rows if (point := axis.read(row))]
    error = {
        "type": "data",
        "symmetric": False,
        "array": [0 if one.high is None else max(0, one.high - one.value) for one in points],
        "arrayminus": [0 if one.low is None else max(0, one.value - one.low) for one in points],
        "color": color,
        "thickness": 1,
        "width": 3,
    }
    known = any(one.low is not None for one in points)
    return {letter: [one.value for one in points]} | ({f"error_{letter}": error} if known else {})


def _front_line(rows: Sequence[Row], x: Axis, y: Axis) -> list[dict[str, Any]]:
    """A line through the front in the order of the x axis; a front of one needs none."""
    points = sorted((a.value, b.value) for row in rows if (a := x.read(row)) and (b := y.read(row)))
    if len(points) < 2:
        return []
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [a for a, _ in points],
            "y": [b for _, b in points],
            "line": {"color": "var(--front)", "width": 2, "dash": "dot"},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]


def _hover(row: Row, found: Sheet) -> str:
    """Steps and figures in plotly's small subset of HTML."""
    lines = [f"<b>{_plain(row.id)}</b>", *_wrapped(row.told)]
    lines += [f"  {line}" for step in row.steps for line in _wrapped(step)]
    ratio = f", {format_ratio(Interval(row.size_ratio))}" if row.size_ratio is not None else ""
    lines.append(f"{format_size(row.size_bytes)}{ratio}")
    for split, score in (("selection", row.selection), ("test", row.test)):
        if score:
            lines += _wrapped(f"{found.metric} {format_score_interval(score, found.metric)}, {split}")
    lines += [line for name, value in row.others.items() for line in _wrapped(f"{name} {format_score(value, name)}")]
    for speed in row.speeds:
        ratio = f", {format_ratio(speed.ratio)}" if speed.ratio else ""
        lines.append(f"batch {speed.batch_size}: {format_ms(speed.latency_ms)}{ratio}")
    if row.twins:
        lines.append(f"{len(row.twins)} more {'chain gives' if len(row.twins) == 1 else 'chains give'} the same file")
    return "<br>".join(lines)


def _diameter(share: float, group: str) -> float:
    """The diameter in pixels whose area stands for a share of the largest model; a star fills less of it."""
    diameter = max(SMALLEST_PX, LARGEST_PX * math.sqrt(share))
    return round(diameter * (1.4 if SYMBOLS[group] == "star" else 1), 1)


def _outline(group: str, color: str) -> str:
    return color if SYMBOLS[group].endswith("open") else "var(--surface)"


def _name(found: Sheet) -> str:
    return _plain(_short(found.metric))


def _short(name: str) -> str:
    """A name that fits beside an axis."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _wrapped(text: str) -> list[str]:
    """User text in lines that fit into a small window."""
    return [_plain(line) for line in textwrap.wrap(text, HOVER_WIDTH)]


def _plain(text: str) -> str:
    """User text as plotly shows it: its labels take a little HTML."""
    return html.escape(text, quote=False)
