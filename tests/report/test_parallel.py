"""Parallel coordinates: each candidate once, at its own heights, better scores in lighter colours."""

from __future__ import annotations

from rayopt.report.parallel import COLORS, parallel


def test_a_line_for_each_candidate_through_its_values() -> None:
    axes = [{"label": "C", "values": [1.0, 3.0, 2.0]}, {"label": "score", "values": [0.5, 0.9, 0.7]}]
    figure = parallel(axes, [0.5, 0.9, 0.7], ["a", "b", "c"])
    lines = {trace["text"][0]: (trace["x"], trace["y"], trace["line"]["color"]) for trace in figure["data"]}
    assert lines["a"] == ([0, 1, None], [0.0, 0.0, None], COLORS[0])
    assert lines["b"] == ([0, 1, None], [1.0, 1.0, None], COLORS[-1])
    assert lines["c"][1] == [0.5, (0.7 - 0.5) / (0.9 - 0.5), None]
    assert figure["layout"]["xaxis"]["ticktext"] == ["C", "score"]


def test_axes_on_which_all_are_equal_and_their_ticks() -> None:
    axes = [
        {"label": "kernel", "values": [0, 1], "tickvals": [0, 1], "ticktext": ["rbf", "linear"]},
        {"label": "score", "values": [0.5, 0.5]},
    ]
    figure = parallel(axes, [0.5, 0.5], ["a", "b"])
    assert [trace["y"] for trace in figure["data"]] == [[0.0, 0.5, None, 1.0, 0.5, None]]
    assert [(one["text"], one["y"]) for one in figure["layout"]["annotations"]] == [
        ("rbf", 0.0),
        ("linear", 1.0),
        ("0.5", 0.5),
    ]
