"""The searches that are shipped run as they are, or shortened where a trial trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayopt import api

JOBS = Path(__file__).parent.parent.parent / "jobs"
PRUNED = [
    "n_trials=2", "space={steps.0.keep: {low: 0.2, high: 0.9}}", "job.train.epochs=2",
    "constraints={candidates.0.latency_ratio.32: {at_most: 1000}}",  # how fast this machine is decides no test
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "assignments", "least"),
    [
        ("grid", [], 0.97),
        ("bayes", [], 0.97),
        ("bayes_distill", ["n_trials=2", "space.epochs=[1]"], 0.1),
        ("bayes_train", ["n_trials=2", "space.epochs=[1]"], 0.1),
        ("bayes_prune", PRUNED, 0.3),
    ],
)
def test_a_shipped_search_runs(name: str, assignments: list[str], least: float, tmp_path: Path) -> None:
    summary = api.run(JOBS / f"{name}.yaml", tmp_path / "out", address="inprocess", assignments=assignments)
    assert summary["status"] == "done"
    assert summary["best_score"] > least
    assert summary["best_params"]
    assert (tmp_path / "out" / summary["path"]).is_dir()
    assert (tmp_path / "out" / "report.html").is_file()
