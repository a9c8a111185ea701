"""The report of a graph run: a sentence, a row for each model, and what was caught, left and not reached."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from rayopt.report.graph import figures, headline, sheet
from rayopt.report.page import render
from tests.report.graph_runs import row, summary

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, "2 of 4 models optimized to 0.50 of all nodes (geometric mean), 1 kept as they are, 1 refused"),
        ({"models": [row("a", "unchanged")], "nodes_ratio": 1.0}, "0 of 1 model optimized, 1 kept as they are"),
        ({"models": [], "nodes_ratio": None}, "0 of 0 models optimized"),
        (
            {"status": "interrupted", "models": [], "nodes_ratio": None},
            "interrupted after 12.3 s; so far 0 of 0 models",
        ),
    ],
)
def test_how_it_ended_is_one_sentence(change: dict[str, Any], says: str) -> None:
    assert headline(summary() | change).startswith(says)


def test_every_model_is_a_row_with_its_figures() -> None:
    small, _, same, bomb = sheet(summary()).rows
    assert (small.nodes, small.nodes_ratio, small.latency, small.chain) == ("40 → 10", 0.25, "0.50", "own > onnxslim")
    assert (small.size, small.size_ratio) == ("900 B (0.90)", 0.9)
    assert (small.fused, small.fused_path) == (
        "7 nodes, latency 0.80", "artifacts/small-0badcafe/small.fused.onnx"
    )  # fmt: skip
    assert (same.nodes, same.latency, same.fused, same.path) == ("40", "–", "–", None)
    assert (bomb.nodes, bomb.nodes_ratio, bomb.reason) == ("–", None, "folding it would make 4,096 bytes")


def test_what_went_wrong_is_told_by_model() -> None:
    found = sheet(summary())
    assert found.caught == (("small.onnx", "own > onnxsim", "wrong", "outputs differ"),)
    assert found.left == (("same.onnx", "own", "slower to run: 1.100 of the original's time"),)
    assert found.unreached == (("small.onnx", "If_3", "then"), ("small.onnx", "If_4", "neither"))


def test_only_models_with_both_figures_are_in_the_plot() -> None:
    (figure,) = figures(sheet(summary()))
    assert figure["data"][0]["x"] == [0.25, 0.5]
    assert figure["data"][0]["y"] == [0.5, 1.0]
    assert figures(sheet(summary() | {"models": [row("a", "unchanged")]})) == []


def test_the_page_has_it_all_and_nothing_of_a_model_is_more_than_text() -> None:
    found = summary()
    found["models"][0]["name"] = found["models"][3]["reason"] = EVIL
    found["models"][0]["caught"][0]["reason"] = found["models"][0]["unreached"][0]["node"] = EVIL
    plan = {"job": {"kind": "graph", "name": "batch", "models": EVIL}, "models": [], "job_hash": "abcd" * 16}
    page = render(found, plan)
    for text in (
        "2 of 4 models optimized", "Where tools were caught", "not taken", "Branches that no input reached",
        "7 nodes, latency 0.80", 'href="artifacts/small-0badcafe/small.fused.onnx"', "slower to run",
    ):  # fmt: skip
        assert text in page
    assert EVIL not in page
    assert page.count("alert(1)") == page.count("&lt;script&gt;alert(1)") + page.count("\\u003cscript\\u003ealert(1)")


def test_a_page_without_fused_models_has_no_such_column() -> None:
    found = summary()
    found["models"][0]["fused"] = None
    page = render(json.loads(json.dumps(found)), {"job": {"kind": "graph"}, "job_hash": ""})
    assert re.search(r"<th[^>]*>[^<]*fused", page) is None
    assert "small.fused.onnx" not in page
