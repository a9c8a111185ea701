"""Parallel coordinates as plain lines: a browser without WebGL, and paper, show them too. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Viridis (Smith and van der Walt, 2015) from low to high, in steps; the lightest is left out for white pages.
COLORS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30")


def parallel(axes: Sequence[Mapping[str, Any]], scores: Sequence[float], texts: Sequence[str]) -> dict[str, Any]:
    """A plotly figure: a line for each candidate through its value on each axis, coloured by its score.

    axes: `label` and `values` (candidates,), optionally `tickvals` and `ticktext`; the last one is the score's.
    """
    heights = [_heights(axis) for axis in axes]
    low, high = min(scores), max(scores)
    bands: dict[int, list[int]] = {}
    for index, score in enumerate(scores):
        share = (score - low) / (high - low) if high > low else 1.0
        bands.setdefault(min(int(share * len(COLORS)), len(COLORS) - 1), []).append(index)
    data = [_lines(band, bands[band], heights, texts) for band in sorted(bands)]
    ticks = [_tick(number, height, text) for number, axis in enumerate(axes) for height, text in _ticks(axis)]
    uprights = [
        {"type": "line", "x0": number, "x1": number, "y0": 0, "y1": 1, "line": {"width": 1, "color": "#888"}}
        for number in range(len(axes))
    ]
    names = {"tickvals": list(range(len(axes))), "ticktext": [str(axis["label"]) for axis in axes]}
    bare = {"showgrid": False, "zeroline": False}
    return {
        "data": data,
        "layout": {
            "xaxis": {**bare, **names, "range": [-0.15, len(axes) - 0.7]},
            "yaxis": {**bare, "showticklabels": False, "range": [-0.05, 1.05]},
            "annotations": ticks,
            "shapes": uprights,
            "showlegend": False,
            "hovermode": "closest",
        },
    }


def _lines(
    band: int, candidates: Sequence[int], heights: Sequence[Sequence[float]], texts: Sequence[str]
) -> dict[str, Any]:
    """One trace for all candidates of a band of scores, with gaps between them."""
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for index in candidates:
        x += [*range(len(heights)), None]
        y += [*(height[index] for height in heights), None]
        text += [texts[index]] * (len(heights) + 1)
    line = {"color": COLORS[band], "width": 1 + band / 4}
    opacity = 0.4 + 0.5 * band / (len(COLORS) - 1)
    return {
        **{"type": "scatter", "mode": "lines", "x": x, "y": y, "text": text, "line": line, "opacity": opacity},
        "hovertemplate": "%{text}<extra></extra>",
    }


def _heights(axis: Mapping[str, Any]) -> list[float]:
    """Values as shares of their axis, from 0 to 1."""
    values = [float(one) for one in axis["values"]]
    low, span = min(values), max(values) - min(values)
    return [(one - low) / span if span else 0.5 for one in values]


def _ticks(axis: Mapping[str, Any]) -> list[tuple[float, str]]:
    values = [float(one) for one in axis["values"]]
    low, span = min(values), max(values) - min(values)
    if "tickvals" in axis:
        pairs = list(zip(map(float, axis["tickvals"]), map(str, axis["ticktext"]), strict=True))
    else:
        steps = sorted(set(values)) if len(set(values)) <= 8 else [low + span * part / 4 for part in range(5)]
        pairs = [(one, f"{one:.4g}") for one in steps]
    return [((one - low) / span if span else 0.5, text) for one, text in pairs]


def _tick(number: int, height: float, text: str) -> dict[str, Any]:
    shown = text if len(text) <= 16 else f"{text[:15]}…"
    return {"x": number, "y": height, "text": shown, "showarrow": False, "xanchor": "left", "xshift": 4}
