"""The trade-offs of a run as plotly figures, one for each pair of axes worth a look.

Figures are plain dicts. Colors are names of the page's CSS properties, such as `var(--front)`: the page puts in what
they are in light, in dark and in print.
"""

from __future__ import annotations

import html
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from rayopt.report.formats import format_ms, format_score, format_size
from rayopt.report.rows import Interval, Row, Sheet, format_ratio, format_score_interval

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
WIDE = 3  # from this ratio of largest to smallest on, an axis is logarithmic
FONT = {"family": "system-ui, sans-serif", "size": 13, "color": "var(--ink)"}
LONGEST_NAME, HOVER_WIDTH = 22, 48  # in characters: a title that is too long is cut at both ends of its axis
LARGEST_PX, SMALLEST_PX = 36, 12


@dataclass(frozen=True)
class Axis:
    """A quantity to plot. `limit` is where what may be recommended ends; `unit` decides how ticks are written."""

    title: str
    unit: Literal["ratio", "bytes", "share", "number"]
    read: Callable[[Row], Interval | None]
    limit: float | None = None
    limit_label: str = ""
    higher_is_better: bool = False


@dataclass(frozen=True)
class Scale:
    """The range of an axis; `low` and `high` are data values also where the axis is logarithmic."""

    low: float
    high: float
    log: bool

    def place(self, value: float) -> float:
        """A value in the axis' own coordinates, as ranges and annotations want it."""
        return math.log10(value) if self.log else value

    def share(self, value: float) -> float:
        """How far along the axis a value is, from 0 to 1."""
        low, high = self.place(self.low), self.place(self.high)
        return (self.place(value) - low) / (high - low)


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
    across, up = _scale(x, rows), _scale(y, rows)
    groups = groupby(rows, lambda row: row.group)
    traces = [_trace(found, group, list(members), x, y) for group, members in groups]
    for trace in traces:
        _label(trace, across)
    line = _front_line([row for row in rows if row.group in ("recommended", "front")], x, y)
    return {"data": [*line, *traces], "layout": _layout(x, y, across, up)}


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


def _scale(axis: Axis, rows: Sequence[Row]) -> Scale:
    """A range with room around all points, their intervals and the limit."""
    values = [] if axis.limit is None else [axis.limit]
    for row in rows:
        point = axis.read(row)
        if point:
            values += [one for one in (point.value, point.low, point.high) if one is not None]
    low, high = min(values), max(values)
    log = axis.unit in ("ratio", "bytes") and low > 0 and high / low > WIDE
    if log:
        room = max(math.log10(high / low), 0.1) * 0.12
        return Scale(low / 10**room, high * 10**room, log)
    room = (high - low) * 0.12 or abs(high) * 0.1 or 1
    return Scale(low - room, high + room, log)


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


def _layout(x: Axis, y: Axis, across: Scale, up: Scale) -> dict[str, Any]:
    return {
        "xaxis": _axis(x, across),
        "yaxis": _axis(y, up),
        "shapes": [*_allowed(x, y, across, up), *_limit_lines(x, y)],
        "annotations": _limit_labels(x, y, across, up),
        "font": FONT,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "var(--surface)", "bordercolor": "var(--muted)", "align": "left", "font": FONT},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "var(--muted)", "activecolor": "var(--ink)"},
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "itemsizing": "constant",
        },
        "margin": {"l": 8, "r": 12, "t": 60, "b": 8},
        "uirevision": "legend",
    }


def _axis(axis: Axis, scale: Scale) -> dict[str, Any]:
    better = "higher is better" if axis.higher_is_better else "lower is better"
    return {
        "title": {"text": f'{axis.title}<br><span style="font-size: 11px">{better}</span>', "standoff": 8},
        "type": "log" if scale.log else "linear",
        "range": [scale.place(scale.low), scale.place(scale.high)],
        "gridcolor": "var(--grid)",
        "linecolor": "var(--line)",
        "showline": True,
        "zeroline": False,
        "automargin": True,
        "uirevision": axis.title,
        **_ticks(axis.unit, scale),
    }


def _ticks(unit: str, scale: Scale) -> dict[str, Any]:
    """Where the ticks are and what they say; plain numbers are left to plotly."""
    if unit == "number":
        return {}
    values = _powers_of_two(scale) if scale.log else _steps(scale)
    texts = [_tick(value, unit) for value in values]
    return {"tickmode": "array", "tickvals": values, "ticktext": texts}


def _tick(value: float, unit: str) -> str:
    if unit == "bytes":
        return re.sub(r"\.0+ ", " ", format_size(value))
    return f"{value:g}x" if unit == "ratio" else f"{value * 100:g} %"


def _powers_of_two(scale: Scale) -> list[float]:
    """All powers of two from low to high, or every second, third... so that there are at most eight."""
    first, last = math.ceil(math.log2(scale.low)), math.floor(math.log2(scale.high))
    return [2.0**power for power in range(first, last + 1, 1 + (last - first) // 8)]


def _steps(scale: Scale) -> list[float]:
    """About five round numbers from low to high."""
    rough = (scale.high - scale.low) / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= rough)
    first = math.ceil(scale.low / step)
    return [round(step * number, 12) for number in range(first, math.floor(scale.high / step) + 1)]


def _allowed(x: Axis, y: Axis, across: Scale, up: Scale) -> list[dict[str, Any]]:
    """The area within all limits."""
    if x.limit is None and y.limit is None:
        return []
    right = across.high if x.limit is None else x.limit
    bottom, top = up.low, up.high
    if y.limit is not None:
        bottom, top = (y.limit, up.high) if y.higher_is_better else (up.low, y.limit)
    area = {"type": "rect", "layer": "below", "x0": across.low, "x1": right, "y0": bottom, "y1": top}
    return [{**area, "fillcolor": "var(--allowed)", "line": {"width": 0}}]


def _limit_lines(x: Axis, y: Axis) -> list[dict[str, Any]]:
    lines = []
    style = {"type": "line", "layer": "below", "line": {"color": "var(--limit)", "width": 1.5, "dash": "dash"}}
    if x.limit is not None:
        lines.append({**style, "xref": "x", "yref": "paper", "x0": x.limit, "x1": x.limit, "y0": 0, "y1": 1})
    if y.limit is not None:
        lines.append({**style, "xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": y.limit, "y1": y.limit})
    return lines


def _limit_labels(x: Axis, y: Axis, across: Scale, up: Scale) -> list[dict[str, Any]]:
    labels = []
    style = {"showarrow": False, "font": {"size": 11, "color": "var(--muted)"}}
    if x.limit is not None:
        at = {"x": across.place(x.limit), "xanchor": "left", "yref": "paper", "y": 0, "yanchor": "bottom"}
        labels.append({**style, **at, "text": x.limit_label, "textangle": -90})
    if y.limit is not None:
        at = {"xref": "paper", "x": 1, "xanchor": "right", "y": up.place(y.limit), "yanchor": "bottom"}
        labels.append({**style, **at, "text": y.limit_label})
    return labels


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
