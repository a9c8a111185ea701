"""A small summary with one model of each verdict, and the plan it could have come from."""

from __future__ import annotations

from typing import Any

import pytest

BASELINE = "ba5e00000000"
BEST = "be5700000000"
CHAIN = ["train", "export_onnx"]
LONG = "mean_absolute_percentage_error_of_the_weekly_demand_forecast"


def model(
    id: str, verdict: str, size_bytes: int, ratios: tuple[float, ...], accuracy: float, *steps: str
) -> dict[str, Any]:
    """One model of a summary, graded on the test split if its verdict says that it was."""
    graded = verdict in ("baseline", "on the front")
    batches = dict(zip(("1", "32"), ratios, strict=False))
    return {
        "id": id,
        "steps": [*CHAIN, *steps],
        "path": f"artifacts/{id}" if graded else None,
        "size_bytes": size_bytes,
        "sha256": id * 4,
        "accuracy": accuracy,
        "accuracy_low": accuracy - 0.02,
        "accuracy_high": accuracy + 0.01,
        "accuracy_n": 359,
        "accuracy_split": "test" if graded else "selection",
        "selection_accuracy": accuracy - 0.01 if graded else accuracy,
        "others": {"log_loss": 0.0604456},
        "latency_ms": {batch: ratio * 0.08 * int(batch) for batch, ratio in batches.items()},
        "latency_ratio": batches,
        "latency_ratio_low": {batch: ratio * 0.98 for batch, ratio in batches.items()},
        "latency_ratio_high": {batch: ratio * 1.03 for batch, ratio in batches.items()},
        "verdict": verdict,
        "twin_of": None,
        "seconds": 4.57,
    }


@pytest.fixture
def summary() -> dict[str, Any]:
    """A run that recommends the smaller of its front of two; ten models, nine files, eight of them timed."""
    baseline = model(BASELINE, "baseline", 1_036_802, (1.0, 1.0), 0.981)
    best = model(BEST, "on the front", 103_780, (0.56, 0.24), 0.981, "prune_channels", "quantize_static")
    front = [best, model("f20000000000", "on the front", 266_244, (0.48, 0.43), 0.9815, "prune_channels")]
    return {
        "kind": "optimize",
        "name": "quickstart",
        "status": "done",
        "seconds": 12.74,
        "job_hash": "cc4b" * 16,
        "task": "classification",
        "metric": "accuracy",
        "higher_is_better": True,
        "max_accuracy_drop": 0.01,
        "objective": "balanced",
        "baseline": baseline,
        "recommended": best,
        "front": front,
        "candidates": [
            model("51000000000a", "slower than the baseline", 293_214, (7.9, 8.4), 0.9665, "quantize_dynamic"),
            model("51000000000b", "not measurably faster than the baseline", 293_000, (0.99, 1.0), 0.9665, "prune"),
            model("be0000000000", "beaten by another", 302_250, (0.73, 0.45), 0.9693, "quantize_static"),
            model(
                "0b0000000000", "over the accuracy budget", 60_204, (0.43, 0.28), 0.9359, "prune_channels(keep=0.25)"
            ),
            model("1a0000000000", "larger than the baseline", 2_036_802, (0.9, 0.9), 0.9693, "fold"),
            model("707000000000", "not timed", 302_111, (), 0.9693, "late"),
            model("5a0000000000", f"the same file as {BEST}", 103_780, (0.56, 0.24), 0.9705, "optimize_graph")
            | {"twin_of": BEST},
            *front,
        ],
        "failed": [
            {"id": "fa0000000000", "steps": [*CHAIN, "recover"], "step": "recover", "reason": "out of memory\nby 3 GiB"}
        ],
        "environment": {
            "cpu": "A processor",
            "cpus": 2,
            "architecture": "x86_64",
            "system": "Linux",
            "timed_on": "inprocess",
            "versions": {"python": "3.11.7", "rayopt": "0.1.0"},
        },
    }


@pytest.fixture
def crowded(summary: dict[str, Any]) -> dict[str, Any]:
    """The same run as a regression in which everything that can be long is: names, chains, reasons, paths, figures."""
    path = "/mnt/data/a_project_with_a_long_name/" * 6 + "model.onnx"
    summary |= {
        "name": "demand_forecast_" * 6,
        "metric": LONG,
        "higher_is_better": False,
        "max_accuracy_drop": 12345.678,
        "caution": f"on the test split, which had no say in the choice, {LONG} is 23456 worse than the baseline's",
    }
    for one in {id(one): one for one in (summary["baseline"], *summary["candidates"])}.values():
        for name in ("accuracy", "accuracy_low", "accuracy_high", "selection_accuracy"):
            one[name] = 1_234_567.8 * one[name]
        for name in ("latency_ms", "latency_ratio", "latency_ratio_low", "latency_ratio_high"):
            figures = list(one[name].values())
            one[name] = {str(2**power): figures[power % 2] for power in range(8)} if figures else {}
        one["steps"] = [*one["steps"], "a_method_of_a_plug_in_" * 3 + f"(path='{path}')"]
        one["others"] = {LONG + "_squared": 1.5}
    summary["failed"][0] |= {"step": "recover_" * 20, "steps": ["recover_" * 20], "reason": "x" * 500}
    summary["environment"] |= {"cpu": path, "versions": {LONG: "2.13.0+" + "local" * 20}}
    return summary


@pytest.fixture
def plan() -> dict[str, Any]:
    return {
        "job_hash": "cc4b" * 16,
        "kind": "optimize",
        "name": "quickstart",
        "job": {"kind": "optimize", "name": "quickstart", "seed": 7, "data": {"source": "digits"}},
        "metric": "accuracy",
        "data": {"task": "classification", "classes": ["0", "1"], "shape": [1, 8, 8], "rows": {"test": 359}},
        "versions": {"python": "3.11.7", "rayopt": "0.1.0"},
    }
