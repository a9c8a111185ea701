"""What the recipe `auto` makes of models of several kinds: how much smaller and faster, how long it took, and why.

    python tests/benchmarks/auto.py [--only cnn,minilm] [--minutes 15] [--out FOLDER]

Prints a table and a line of JSON; nothing here decides a test.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
CNN = {"factory": "rayopt.models.zoo:resnet", "args": {"channels": 1, "classes": 10, "widths": [24, 48, 96]}}


def jobs(folder: Path, minutes: float) -> dict[str, dict[str, Any]]:
    """Jobs by name; without steps, so that the recipe decides."""
    common: dict[str, Any] = {"kind": "optimize", "budget": {"trials": 100, "minutes": minutes}}
    mnist = {
        "model": CNN,
        "data": {"source": "mnist5k", "split": {"test": 0.2, "selection": 0.1}},
        "train": {"epochs": 8},
    }
    return {
        "cnn": {**common, **mnist, "max_accuracy_drop": 0.003},
        "cnn5": {**common, **mnist, "max_accuracy_drop": 0.005},
        "minilm": {**common, **minilm(folder), "max_accuracy_drop": 0.01},
        "mlp": {
            **common,
            "model": {"factory": "rayopt.models.zoo:mlp", "args": {"features": 30, "outputs": 2, "hidden": 256}},
            "data": {"source": "networks:breast_cancer"},
            "train": {"epochs": 20, "lr": 0.02},
        },
        "lstm": {
            **common,
            "model": {"factory": "networks:lstm"},
            "data": {"source": "networks:rows_of_digits"},
            "train": {"epochs": 20},
        },
        "depthwise": {
            **common,
            "model": {"factory": "networks:depthwise"},
            "data": {"source": "digits"},
            "train": {"epochs": 12},
        },
        "unet": {
            **common,
            "model": {"factory": "networks:unet"},
            "data": {"source": "networks:noisy_digits"},
            "train": {"epochs": 4, "lr": 0.05},
        },
    }


def minilm(folder: Path) -> dict[str, Any]:
    from minilm import make

    if not (folder / "minilm.onnx").is_file():
        make(folder)
    model, data = folder / "minilm.onnx", folder / "sentences.npz"
    return {"model": {"onnx": str(model)}, "data": {"source": str(data)}, "measure": {"batch_sizes": [1, 8]}}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "rayopt-auto")
    parser.add_argument("--address")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)
    from rayopt import api
    from rayopt.cli.progress import progress

    found = {}
    for name, job in jobs(given.out, given.minutes).items():
        if given.only and name not in given.only.split(","):
            continue
        with progress() as watcher:
            summary = api.run({**job, "name": name}, given.out / name, address=given.address, watcher=watcher)
        found[name] = row(summary)
    table(found)
    print(json.dumps({"load": os.getloadavg()[0], "models": found}))


def row(summary: dict[str, Any]) -> dict[str, Any]:
    """The recommended model beside the baseline, and the others that were chosen."""
    models = {one["id"]: one for one in [summary["baseline"], *summary["candidates"]]}
    slower = [one["id"] for one in summary["front"] if any(low > 1.02 for low in one["latency_ratio_low"].values())]
    told: dict[str, Any] = {
        "seconds": summary["seconds"], "tried": len(summary["candidates"]), "failed": len(summary["failed"]),
        "metric": summary["metric"], "baseline_bytes": summary["baseline"]["size_bytes"],
        "baseline_score": summary["baseline"]["accuracy"], "slower_on_the_front": slower,
    }  # fmt: skip
    best = (summary["recommended"] or {}).get("id")
    for choice, id in {"recommended": best, **summary["choices"]}.items():
        if id is not None:
            one = models[id]
            told[choice] = {
                "smaller": summary["baseline"]["size_bytes"] / one["size_bytes"],
                "ratios": {
                    size: [ratio, one["latency_ratio_high"][size]] for size, ratio in one["latency_ratio"].items()
                },
                "drop_selection": one["drop"], "score": one["accuracy"], "steps": one["steps"], "why": one["why"],
            }  # fmt: skip
    return told


def table(found: dict[str, dict[str, Any]]) -> None:
    for name, told in found.items():
        baseline = f"{told['baseline_bytes'] / 1024:.0f} KiB, {told['metric']} {told['baseline_score']:.4f}"
        print(f"\n{name}: {told['tried']} tried, {told['failed']} failed, {told['seconds']:.0f} s; baseline {baseline}")
        for choice in ("recommended", "smallest", "fastest", "balanced"):
            if choice in told:
                print(f"  {choice:12} {line(told[choice])}")
        if told["slower_on_the_front"]:
            print(f"  slower than the baseline, but on the front: {told['slower_on_the_front']}")


def line(one: dict[str, Any]) -> str:
    speeds = ", ".join(f"b{size} {ratio:.2f} (<= {high:.2f})" for size, (ratio, high) in one["ratios"].items())
    return f"{one['smaller']:6.1f}x smaller, {speeds}, {one['score']:.4f}: {' > '.join(one['steps'])}"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
