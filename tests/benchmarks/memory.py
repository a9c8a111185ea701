"""Predicted peaks beside the allocator's own, and plans beside the exhaustive best.

    python tests/benchmarks/memory.py peaks    # 48 configurations: model x batch x optimizer x accumulation x ...
    python tests/benchmarks/memory.py plans    # 40 pairs of model and budget: does the plan fit, what does it cost
    python tests/benchmarks/memory.py warm     # seconds of a prediction, the second time

The networks here are not those of the tests, which the predictions were developed on.
"""

from __future__ import annotations

import itertools
import random
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rayopt.errors import InputError
from rayopt.memory.clock import measured_costs
from rayopt.memory.plan import Space, find_plan
from rayopt.memory.predict import Predictor
from rayopt.memory.rehearsal import Variant, measured_bytes
from rayopt.memory.steps import TrainingSteps, steps_of
from rayopt.models.zoo import resnet
from rayopt.training.learner import TaskObjective
from rayopt.training.settings import TrainSettings
from rayopt.training.source import Arrays

CPU = torch.device("cpu")
ALLOWED = {"mlp": (-0.01, 0.01), "cnn": (-0.01, 0.01), "transformer": (-0.01, 0.01)}  # all others: [0, +10 %]


class Transformer(nn.Module):
    def __init__(self, width: int = 96, depth: int = 3, tokens: int = 200) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, width)
        layer = nn.TransformerEncoderLayer(width, 4, 3 * width, 0.1, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(self.embed(tokens))[:, 0])
        return logits


def mlp() -> nn.Module:
    sizes = [100, 700, 300, 300]
    parts = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.GELU(), nn.LayerNorm(b))]
    return nn.Sequential(*parts, nn.Dropout(0.2), nn.Linear(300, 10))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 24, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(24, 40, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(40, 56, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(56, 10),
    )  # fmt: skip


class Bottleneck(nn.Module):
    """Three convolutions, the middle one in groups, and a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width // 2, 1, bias=False), nn.BatchNorm2d(width // 2), nn.ReLU(),
            nn.Conv2d(width // 2, width // 2, 3, padding=1, groups=4, bias=False),
            nn.BatchNorm2d(width // 2), nn.ReLU(),
            nn.Conv2d(width // 2, width, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + x)


def bottlenecks() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.Sequential(*(Bottleneck(32) for _ in range(3))),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "mlp": (mlp, lambda rows: torch.rand(rows, 100)),
    "cnn": (cnn, lambda rows: torch.rand(rows, 3, 20, 20)),
    "transformer": (Transformer, lambda rows: torch.randint(0, 200, (rows, 24))),
    "resnet": (lambda: resnet(1, 10, (16, 24, 40)), lambda rows: torch.rand(rows, 1, 20, 20)),
    "bottlenecks": (bottlenecks, lambda rows: torch.rand(rows, 3, 16, 16)),
}


def training(name: str, optimizer: str) -> TrainingSteps:
    build, rows = MODELS[name]
    torch.manual_seed(0)
    data = Arrays(rows(64).numpy(), (torch.arange(64) % 10).numpy())
    return steps_of(build(), TaskObjective(), data, TrainSettings(optimizer={"use": optimizer}), CPU)


def peaks(count: int = 50) -> None:
    """Peaks for configurations drawn with a fixed seed, as many of each model."""
    chooser, off = random.Random(0), 0
    print("model        rows optimizer  acc again prec foreach    allocator      off")
    errors: dict[str, list[float]] = {name: [] for name in MODELS}
    for index in range(count):
        name = list(MODELS)[index % len(MODELS)]
        rows, optimizer = chooser.choice([8, 24, 50, 96, 150]), chooser.choice(["sgd", "adamw"])
        variant = Variant(
            chooser.choice([1, 2, 4]), chooser.random() < 0.4, chooser.choice(["fp32", "bf16"]), chooser.random() < 0.5,
            chooser.choice(["contiguous", "channels_last"]) if name not in ("mlp", "transformer") else "contiguous",
        )  # fmt: skip
        steps = training(name, optimizer)
        predicted = Predictor(steps, CPU).confirmed_bytes(rows, variant)
        truth = measured_bytes(steps, rows, variant, CPU)
        error = predicted / truth - 1
        low, high = ALLOWED.get(name, (0.0, 0.1))
        off += not low <= error <= high
        errors[name].append(error)
        print(
            f"{name:12}{rows:5} {optimizer:10}{variant.accumulation:4}{variant.checkpointing!s:>6} "
            f"{variant.precision:5}{variant.foreach!s:8}{truth:12,}{error:+9.4%}", flush=True
        )  # fmt: skip
    for name, found in errors.items():
        print(f"{name}: {min(found):+.4%} to {max(found):+.4%}, n={len(found)}")
    print(f"{off} of {count} outside of what was asked for")


def plans(rows: int = 96) -> None:
    """Budgets from just above the floor to more than enough; costs of the plan and of all that fit, in turns."""
    shares, worst, broken, count = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0), [], 0, 0
    for name in MODELS:
        steps = training(name, "adamw")
        predictor = Predictor(steps, CPU)
        floor = min(
            predictor.peak_bytes(3, Variant(rows // 3, again, foreach=one))
            for again in (False, True)
            for one in (False, True)
        )
        most = predictor.peak_bytes(rows, Variant())
        for share in shares:
            budget = int(floor + share * (most - floor)) + 4096
            try:
                plan = find_plan(predictor, Space(rows), budget, "budget")
            except InputError as error:
                print(name, f"{budget:,}", error)
                continue
            chosen = plan.chosen
            truth = measured_bytes(steps, chosen.micro_batch, chosen.variant, CPU)
            everything = [(one.micro_batch, one.variant) for one in plan.fitting]
            costs = measured_costs(steps, everything, CPU, 60)
            best = min(costs.step_s(*one) for one in everything)
            ratio = costs.step_s(chosen.micro_batch, chosen.variant) / best
            worst.append(ratio)
            broken += truth > budget
            count += 1
            print(f"{name:12}{budget:12,} {chosen.micro_batch:4} rows x {chosen.variant.accumulation:3} "
                  f"{truth:12,} {ratio:6.3f}", flush=True)  # fmt: skip
    print(f"{count} plans, {broken} over budget; cost to the best: median {statistics.median(worst):.3f}, "
          f"largest {max(worst):.3f}, {sum(one > 1.15 for one in worst)} over 1.15")  # fmt: skip


def warm() -> None:
    for name in MODELS:
        steps, spent = training(name, "adamw"), []
        for _ in range(4):
            start = time.perf_counter()
            Predictor(steps, CPU).peak_bytes(96, Variant(2))
            spent.append(time.perf_counter() - start)
        print(f"{name:12} first {spent[0]:.2f} s, then {min(spent[1:]):.2f} to {max(spent[1:]):.2f} s")


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"peaks": peaks, "plans": plans, "warm": warm}[sys.argv[1]]()
