"""Axes of the trade-off figures: their ranges and ticks, and the limits that are drawn across them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rayopt.report.formats import format_size
from rayopt.report.optimize.rows import Interval, Row

WIDE = 3  # from this ratio of largest to smallest on, an axis is logarithmic
FONT = {"family": "system-ui, sans-serif", "size": 13, "color": "var(--ink)"}


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


def scale_of(axis: Axis, rows: Sequence[Row]) -> Scale:
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


def layout(x: Axis, y: Axis, across: Scale, up: Scale) -> dict[str, Any]:
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
