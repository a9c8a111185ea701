"""The figures: valid to plotly, one point a file, and lines where the limits are."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from rayopt.report.optimize.figure import LABELS, SYMBOLS, views
from rayopt.report.optimize.rows import ORDER, sheet


def points(view: dict[str, Any]) -> int:
    return sum(len(trace["x"]) for trace in view["data"] if trace["mode"] != "lines")


def test_the_views_and_their_points(summary: dict[str, Any]) -> None:
    found = views(sheet(summary))
    assert {view["label"]: points(view) for view in found} == {
        "accuracy by latency, batch 32": 8,
        "accuracy by latency, batch 1": 8,
        "accuracy by size": 9,
        "size by latency, batch 32": 8,
    }


def test_plotly_accepts_the_figures(summary: dict[str, Any]) -> None:
    from plotly import graph_objects

    for view in views(sheet(summary)):
        figure = json.loads(re.sub(r"var\(--\w+\)", "#123456", json.dumps(view)))
        graph_objects.Figure(data=figure["data"], layout=figure["layout"])


def test_the_limits_are_the_baseline_and_the_budget(summary: dict[str, Any]) -> None:
    shapes = views(sheet(summary))[0]["layout"]["shapes"]
    area, vertical, horizontal = shapes
    assert vertical["x0"] == vertical["x1"] == 1
    assert horizontal["y0"] == horizontal["y1"] == pytest.approx(0.981 - 0.01 - 0.01)
    assert (area["x1"], area["y0"]) == (1, horizontal["y0"])


def test_a_budget_of_a_loss_is_above_the_baseline(summary: dict[str, Any]) -> None:
    summary |= {"metric": "log_loss", "higher_is_better": False}
    area, _, horizontal = views(sheet(summary))[0]["layout"]["shapes"]
    assert horizontal["y0"] == pytest.approx(0.981 - 0.01 + 0.01)
    assert area["y1"] == horizontal["y0"]


def test_sizes_end_at_the_baseline(summary: dict[str, Any]) -> None:
    by_size = next(view for view in views(sheet(summary)) if view["label"] == "accuracy by size")
    area, vertical, _ = by_size["layout"]["shapes"]
    assert area["x1"] == vertical["x0"] == summary["baseline"]["size_bytes"]


def test_a_slower_model_in_the_shaded_area_says_at_which_batch_size(summary: dict[str, Any]) -> None:
    slow = summary["candidates"][0]
    for name in ("latency_ratio", "latency_ratio_low", "latency_ratio_high"):
        slow[name]["32"] = 0.5
    view = views(sheet(summary))[0]
    trace = next(trace for trace in view["data"] if trace.get("name") == LABELS["slower"])
    at = trace["x"].index(0.5)
    assert trace["x"][at] < view["layout"]["shapes"][0]["x1"]
    assert "slower than the baseline at batch 1<br>" in trace["hovertext"][at]


def test_a_verdict_that_is_not_known_stands_for_itself(summary: dict[str, Any]) -> None:
    summary["candidates"][0]["verdict"] = "not compared yet"
    assert "not compared yet" in [trace.get("name") for trace in views(sheet(summary))[0]["data"]]
    summary["candidates"][1]["verdict"] = "<b>"
    assert "other" in [trace.get("name") for trace in views(sheet(summary))[0]["data"]]


def test_long_names_fit(crowded: dict[str, Any]) -> None:
    for view in views(sheet(crowded)):
        names = [trace["name"] for trace in view["data"] if "name" in trace]
        assert max(map(len, [*names, *(one["text"] for one in view["layout"]["annotations"])])) <= 38
        for trace in view["data"]:
            assert all(len(line) <= 60 for hover in trace.get("hovertext", ()) for line in hover.split("<br>"))


def test_everything_is_within_its_axes(summary: dict[str, Any]) -> None:
    for view in views(sheet(summary)):
        for letter in "xy":
            axis = view["layout"][f"{letter}axis"]
            low, high = (10**end if axis["type"] == "log" else end for end in axis["range"])
            for trace in view["data"]:
                assert all(low < value < high for value in trace[letter])
            assert all(low < tick < high for tick in axis.get("tickvals", ()))
            assert len(axis.get("tickvals", (1, 2))) > 1


def test_the_front_line_runs_from_left_to_right(summary: dict[str, Any]) -> None:
    for view in views(sheet(summary)):
        line = next(trace for trace in view["data"] if trace["mode"] == "lines")
        assert line["x"] == sorted(line["x"])
        assert len(line["x"]) == 2


def test_without_a_baseline_or_latencies(summary: dict[str, Any]) -> None:
    untimed = [one for one in summary["candidates"] if one["verdict"] == "not timed"]
    summary |= {"baseline": None, "recommended": None, "front": [], "candidates": untimed}
    (view,) = views(sheet(summary))
    assert (view["label"], points(view)) == ("accuracy by size", 1)
    assert view["layout"]["shapes"] == []
    assert views(sheet(summary | {"candidates": []})) == []


def test_names_in_hovers_are_text(summary: dict[str, Any]) -> None:
    summary["candidates"][0]["steps"] = ["<a href='https://example.org'>x</a>&"]
    hovers = [hover for trace in views(sheet(summary))[0]["data"] for hover in trace.get("hovertext", ())]
    assert any("&lt;a href='https://example.org'&gt;x&lt;/a&gt;&amp;" in hover for hover in hovers)
    assert not any("<a" in hover for hover in hovers)


def test_every_group_has_a_look_of_its_own() -> None:
    assert set(LABELS) == set(SYMBOLS) == set(ORDER) - {"same"}
    assert len(set(SYMBOLS.values())) == len(SYMBOLS)
