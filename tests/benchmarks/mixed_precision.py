"""Bits by layer against the same bits for all: test accuracy and file bytes of packed ONNX weights, several seeds.

Prints a table for two small residual CNNs, and a line of JSON; nothing here decides a test. Mixed bits are chosen by
outputs on the calibration rows alone; accuracies are of the test rows, which nothing else has seen.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rayopt.compress.onnx_weights import quantize_weights
from rayopt.compress.sensitivity import mixed_bits
from rayopt.compress.weights import Plan
from rayopt.data.dataset import Dataset
from rayopt.data.settings import DataSettings
from rayopt.data.sources import load
from rayopt.graph.export import export
from rayopt.measure.metrics import accuracy
from rayopt.models.onnx_model import predict, session
from rayopt.models.zoo import resnet
from rayopt.records import Artifact
from rayopt.training.fit import fit
from rayopt.training.losses import task_loss
from rayopt.training.settings import FitSettings

SEEDS = range(5)
BUDGETS = (3.0, 3.2)


@dataclass(frozen=True)
class Net:
    """A residual CNN of these widths, trained for some epochs on a built-in set."""

    source: str
    widths: tuple[int, ...]
    epochs: int


NETS = (Net("digits", (8, 16, 16, 32), 10), Net("mnist5k", (8, 16, 32), 3))


def trained(net: Net, data: Dataset, seed: int) -> Artifact:
    torch.manual_seed(seed)
    module = resnet(widths=net.widths)
    x, y = torch.tensor(data["train"].x), torch.tensor(data["train"].y)
    fit(module, x, y, lambda outputs, targets, _: task_loss(outputs, targets), FitSettings(epochs=net.epochs), seed)
    return export(module, data["calibration"].x, ["torchscript"], 17, seed)


def measure(model: Artifact, data: Dataset) -> tuple[float, int]:
    """Test accuracy in percent, and bytes."""
    rows = data["test"]
    return 100 * float(accuracy(rows.y, predict(session(model), rows.x)).mean()), model.size_bytes


def rows_of(net: Net) -> list[dict[str, Any]]:
    found = []
    for seed in SEEDS:
        data = load(DataSettings(source=net.source), Path(), seed, "data")
        model = trained(net, data, seed)
        for per_channel in (False, True):
            plan = Plan(3, per_channel)
            row = {"seed": seed, "per_channel": per_channel, "float": measure(model, data), "n": len(data["test"])}
            row["equal 3"] = measure(quantize_weights(model, plan), data)
            for budget in BUDGETS:
                start = time.perf_counter()
                bits = mixed_bits(model, data["calibration"].x, budget, plan)
                row["search_s"] = time.perf_counter() - start
                row[f"mixed {budget}"] = measure(quantize_weights(model, replace(plan, layers=bits)), data)
            found.append(row)
    return found


def main() -> None:
    result = {}
    for net in NETS:
        rows = rows_of(net)
        result[f"{net.source} {net.widths}"] = rows
        print(f"\nresnet{net.widths} on {net.source}, {net.epochs} epochs, test n={rows[0]['n']}: accuracy % (bytes)")
        kinds = ["float", "equal 3", *(f"mixed {budget}" for budget in BUDGETS)]
        print(f"{'scale per':10}{'seed':>5}" + "".join(f"{kind:>18}" for kind in kinds))
        for per_channel in (False, True):
            own = [row for row in rows if row["per_channel"] == per_channel]
            for row in own:
                cells = "".join(f"{row[kind][0]:>9.1f} ({row[kind][1]:,})".rjust(18) for kind in kinds)
                print(f"{'channel' if per_channel else 'tensor':10}{row['seed']:>5}" + cells)
            gains = [statistics.mean(row[kind][0] - row["equal 3"][0] for row in own) for kind in kinds[2:]]
            told = ", ".join(f"{kind} {gain:+.1f}" for kind, gain in zip(kinds[2:], gains, strict=True))
            print(f"{'':10} mean gain over equal bits, in points: {told}", flush=True)
    print(json.dumps({"load": os.getloadavg()[0], "nets": result}))


if __name__ == "__main__":
    main()
