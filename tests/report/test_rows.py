"""Sentences and numbers: what a person reads first, and how figures are written."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from rayopt.report import formats
from rayopt.report.kinds import headline
from rayopt.report.optimize import cards as big
from rayopt.report.optimize import rows, words
from rayopt.report.optimize.rows import Interval, sheet


def test_headline_of_a_recommendation(summary: dict[str, Any]) -> None:
    assert headline(summary) == (
        "recommended be5700000000: 10.0x smaller, 1.79x faster at batch 1, 4.2x faster at batch 32, "
        "accuracy 98.1 % (baseline 98.1 %, n=359)"
    )


def test_headline_of_a_regression_has_no_percentages(summary: dict[str, Any]) -> None:
    summary |= {"metric": "r2", "max_accuracy_drop": 0.02}
    assert headline(summary).endswith("at batch 32, r2 0.9810 (baseline 0.9810, n=359)")
    assert "%" not in headline(summary)


def test_headline_says_when_the_test_split_was_not_read(summary: dict[str, Any]) -> None:
    best = {**summary["recommended"], "accuracy_split": "selection"}
    summary["candidates"] = [best]
    assert headline(summary).endswith("(baseline 98.1 %, n=359, selection split)")


def test_headline_when_nothing_is_better(summary: dict[str, Any]) -> None:
    summary |= {"recommended": None, "front": [], "candidates": summary["candidates"][:2]}
    assert headline(summary) == (
        "nothing tried is better than the baseline within the budget (accuracy at most 1 point lower); "
        "baseline ba5e00000000: 1013 KiB, 0.0800 ms at batch 1, 2.56 ms at batch 32, accuracy 98.1 % (n=359)"
    )


@pytest.mark.parametrize(
    ("failed", "start"),
    [([], "nothing was tried besides the baseline; "), ([{}], "nothing tried gave a model that could be measured: 1 ")],
)
def test_headline_when_there_are_no_candidates(summary: dict[str, Any], failed: list[Any], start: str) -> None:
    summary |= {"recommended": None, "front": [], "candidates": [], "failed": failed}
    assert headline(summary).startswith(start)


def test_headline_of_an_interrupted_run(summary: dict[str, Any]) -> None:
    summary["status"] = "interrupted"
    assert headline(summary).startswith("interrupted after 12.7 s; so far recommended be5700000000: 10.0x smaller")
    summary["recommended"] = None
    assert headline(summary) == "interrupted after 12.7 s, before a model was chosen; 10 models measured"
    summary |= {"baseline": None, "candidates": []}
    assert headline(summary) == "interrupted after 12.7 s, before a model was chosen; 0 models measured"


def test_headline_of_a_failed_run_is_one_line(summary: dict[str, Any]) -> None:
    summary |= {"status": "failed", "baseline": None, "recommended": None, "front": [], "candidates": []}
    expected = "failed after 12.7 s: the baseline cannot be made or measured: recover: out of memory"
    assert headline(summary) == expected
    summary["failed"][0]["reason"] = "word " * 100
    assert headline(summary).endswith("word word …")
    assert len(headline(summary)) < 250
    summary["failed"] = []
    assert headline(summary) == "failed after 12.7 s"


def test_headline_of_another_kind() -> None:
    assert headline({"kind": "search", "name": "forest", "status": "done", "best_score": 0.9}) == "forest: done"


def test_rows_are_best_first_and_twins_last(summary: dict[str, Any]) -> None:
    found = sheet(summary)
    assert [row.group for row in found.rows] == [
        "recommended", "front", "baseline", "beaten", "slower", "slower", "larger", "budget", "untimed", "same",
    ]  # fmt: skip
    assert found.recommended is found.rows[0]
    assert found.rows[0].twins == (("train", "export_onnx", "optimize_graph"),)
    assert found.batch_sizes == ("1", "32")


def test_every_verdict_that_choosing_gives_has_a_group() -> None:
    from rayopt.measure.choose import Candidate, verdict

    def candidate(size_bytes: int, drop: float, ratio: float, high: float) -> Candidate:
        return Candidate("c", size_bytes, drop, ratios=(ratio,), ratios_low=(ratio,), ratios_high=(high,))

    baseline = candidate(100, 0.0, 1.0, 1.0)
    tried = [
        candidate(100, 0.5, 0.5, 0.5),
        candidate(100, 0.0, 1.5, 1.5),
        candidate(100, 0.0, 0.9, 1.1),
        candidate(200, 0.0, 0.5, 0.5),
    ]
    assert {verdict(one, baseline, 0.1) for one in tried} < set(rows.GROUPS)


def test_a_verdict_that_is_not_known_is_shown_as_it_is(summary: dict[str, Any]) -> None:
    first, second = summary["candidates"][:2]
    first["verdict"], second["verdict"] = "not compared yet", None
    found = {row.id: (row.group, row.told) for row in sheet(summary).rows}
    assert found[first["id"]] == ("other", "not compared yet")
    assert found[second["id"]] == ("other", "no verdict")


def test_twins_are_known_by_what_they_are_twins_of(summary: dict[str, Any]) -> None:
    twin = next(one for one in summary["candidates"] if one["twin_of"])
    twin["verdict"] = "in other words"
    found = sheet(summary)
    assert (found.rows[-1].id, found.rows[-1].group) == (twin["id"], "same")
    assert found.rows[0].twins == (tuple(twin["steps"]),)


@pytest.mark.parametrize(
    ("ratios", "told"),
    [
        ({"1": 0.5, "32": 1.2}, "slower than the baseline at batch 32"),
        ({"1": 1.1, "8": 0.5, "32": 1.2}, "slower than the baseline at batch 1 and 32"),
        ({"1": 1.1, "32": 1.2}, "slower than the baseline at every batch size"),
        (
            {"1": 0.5, "32": 0.97},
            "slower than the baseline at batch 32",
        ),  # 0.97 * 1.03 is above the noise floor of 0.98
        ({"32": 1.2}, "slower than the baseline at batch 32"),
        ({}, "slower than the baseline"),
    ],
)
def test_a_slower_model_says_where(summary: dict[str, Any], ratios: dict[str, float], told: str) -> None:
    slow = summary["candidates"][0]
    slow |= {"latency_ratio": ratios, "latency_ratio_high": {size: ratio * 1.03 for size, ratio in ratios.items()}}
    slow["latency_ms"] = dict(ratios)
    assert next(row.told for row in sheet(summary).rows if row.id == slow["id"]) == told


def test_the_budget_is_of_the_metric(summary: dict[str, Any]) -> None:
    row = next(row for row in sheet(summary | {"metric": "mae"}).rows if row.group == "budget")
    assert row.told == "over the mae budget"


def test_chains_that_ended_alike_are_told_of_together(summary: dict[str, Any]) -> None:
    chains = [{"id": str(number), "steps": ["prune", f"then {number}"]} for number in range(3)]
    alike = [{**chain, "step": "prune", "reason": "nothing left"} for chain in chains]
    summary["failed"] = [alike[0], {**alike[1], "reason": "another"}, alike[2]]
    assert rows.endings(summary) == [
        rows.Ending("prune", "nothing left", (("0", ("prune", "then 0")), ("2", ("prune", "then 2")))),
        rows.Ending("prune", "another", (("1", ("prune", "then 1")),)),
    ]
    assert rows.endings({}) == []


def test_scores_keep_their_splits_apart(summary: dict[str, Any]) -> None:
    found = sheet(summary)
    best, beaten = found.rows[0], found.rows[3]
    assert best.test == Interval(0.981, pytest.approx(0.961), pytest.approx(0.991), 359)
    assert best.selection == Interval(pytest.approx(0.971))
    assert beaten.test is None
    assert beaten.selection
    assert beaten.selection.n == 359


def test_cards_compare_and_bars_show_the_ratio(summary: dict[str, Any]) -> None:
    cards = big.cards(sheet(summary))
    assert [(card.title, card.figure, card.word) for card in cards] == [
        ("Size", "10.0x", "smaller"),
        ("Latency, batch 1", "1.79x", "faster"),
        ("Latency, batch 32", "4.2x", "faster"),
        ("Accuracy, test split", "98.1 %", "n=359"),
    ]
    assert (cards[1].baseline_bar.end, cards[1].recommended_bar.end) == (1, 0.56)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (103_780, "101 KiB"), (1_036_802, "1013 KiB"),
     (1_048_575, "1.00 MiB"), (45_000_000, "42.9 MiB"), (5 * 2**40, "5120 GiB")],
)  # fmt: skip
def test_sizes(count: int, text: str) -> None:
    assert formats.format_size(count) == text


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [(1.0, "accuracy", "100.0 %"), (0.98051, "accuracy", "98.1 %"), (0.831, "r2", "0.8310"), (-0.5, "r2", "-0.5000"),
     (1234.56, "rmse", "1235"), (123456.7, "rmse", "123500"), (1.234e-7, "rmse", "1.234e-07"),
     (3.2e9, "mine", "3.200e+09"), (0, "log_loss", "0.000")],
)  # fmt: skip
def test_scores(value: float, metric: str, text: str) -> None:
    assert formats.format_score(value, metric) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.1001, "10.0x faster"), (0.97, "1.03x faster"), (0.999, "as fast"), (1.0, "as fast"), (1.27, "1.27x slower"),
     (0.001, "1000x faster"), (0.917, "1.09x faster"), (0.909, "1.10x faster"), (0.501, "2.0x faster"),
     (0.0374, "26.7x faster")],
)  # fmt: skip
def test_speed_changes(summary: dict[str, Any], ratio: float, text: str) -> None:
    best = {**summary["recommended"], "latency_ratio": {"1": ratio}}
    summary["candidates"] = [best]
    assert f", {text} at batch 1," in headline(summary)


def test_ratios_durations_and_budgets(summary: dict[str, Any]) -> None:
    assert words.format_ratio(Interval(0.5617, 0.5527, 0.5748)) == "0.562x (0.553–0.575)"
    assert words.format_ratio(Interval(1.0)) == "1.00x"
    assert [formats.format_seconds(one) for one in (0.04, 59.9, 200, 7500)] == [
        "0.0 s",
        "59.9 s",
        "3 min 20 s",
        "2 h 5 min",
    ]
    assert words.format_drop(sheet(summary)) == "accuracy at most 1 point lower"
    assert words.format_drop(sheet(summary | {"max_accuracy_drop": 0.005})) == "accuracy at most 0.5 points lower"
    rmse = summary | {"metric": "rmse", "higher_is_better": False, "max_accuracy_drop": 0.05}
    assert words.format_drop(sheet(rmse)) == "rmse at most 0.05 higher"


def test_rows_import_nothing_heavy() -> None:
    heavy = {"jinja2", "numpy", "plotly", "ray", "torch", "yaml"}
    names = ", ".join(f"rayopt.report.{name}" for name in ("kinds", "optimize", "search"))
    code = f"import sys, {names}; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
