"""How a search is told: in a sentence, and with the parameters that its candidates differ in."""

from __future__ import annotations

from typing import Any

from rayopt.report.search import headline, sheet


def summary(*params: dict[str, Any]) -> dict[str, Any]:
    trials = [{"params": one, "score": 1 - rank / 10, "rank": rank, "seconds": 1} for rank, one in enumerate(params, 1)]
    return {"kind": "search", "name": "s", "status": "done", "metric": "score", "trials": trials}


def test_what_is_the_same_everywhere_is_left_out() -> None:
    found = sheet(summary({"lr": 0.1, "epochs": 8}, {"lr": 0.2, "epochs": 8}, {"lr": 0.1, "epochs": 8, "gamma": 2}))
    assert found.names == ("lr", "gamma")
    assert [row.params_text for row in found.rows] == ["lr=0.1", "lr=0.2", "lr=0.1, gamma=2"]
    assert found.rows[0].params == {"lr": 0.1, "epochs": 8}


def test_one_candidate_is_told_with_all() -> None:
    one = summary({"lr": 0.1, "epochs": 8})
    assert sheet(one).names == ("lr", "epochs")
    assert "lr=0.1, epochs=8" in headline(one)
