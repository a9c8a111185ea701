"""Predicted peaks beside the allocator's own, and plans beside the exhaustive best.

    python tests/benchmarks/memory.py [peaks] [plans] [warm] [--short]

`peaks`: 50 configurations: model x batch x optimizer x accumulation x checkpointing x precision x layout x update.
`plans`: 40 pairs of model and budget: does the plan fit, and what does it cost? Every way to take the step, whatever
the planner would think of it, is really taken; the allocator says what fits a budget, whole steps of all ways take
turns on the clock, and the plan is held against the cheapest that fits. `warm`: seconds of a prediction, the second
time. The networks here are not those of the tests, which the predictions were developed on. Prints tables, what was
reached of what was asked for, and a line of JSON.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import math
import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from figures import Figure, show
from torch import Tensor, nn

from rayopt.errors import InputError
from rayopt.memory.plan import Space, find_plan
from rayopt.memory.predict import Predictor
from rayopt.memory.rehearsal import Variant, measured_bytes, unwatched
from rayopt.memory.steps import TrainingSteps, steps_of
from rayopt.memory.work import told
from rayopt.models.zoo import resnet
from rayopt.training.learner import TaskObjective
from rayopt.training.precision import PLAIN, Numerics
from rayopt.training.settings import Layout, TrainSettings
from rayopt.training.source import Arrays

CPU = torch.device("cpu")
ROWS = 96  # of a step that is planned
ROUNDS = 5  # of all ways on the clock
SHARES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)  # of the way from the smallest to the largest
SPARE_BYTES = 4096
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


def peaks(short: bool) -> tuple[dict[str, Any], list[Figure]]:
    """Peaks for configurations drawn with a fixed seed, as many of each model."""
    chooser, off, count = random.Random(0), 0, 5 if short else 50
    print("model        rows optimizer  acc again prec foreach    allocator      off")
    errors: dict[str, list[float]] = {name: [] for name in MODELS}
    for index in range(count):
        name = list(MODELS)[index % len(MODELS)]
        rows, optimizer = chooser.choice([8, 24, 50, 96, 150]), chooser.choice(["sgd", "adamw"])
        variant = Variant(
            chooser.choice([1, 2, 4]), chooser.random() < 0.4, chooser.choice(["fp32", "bf16"]),
            chooser.choice([True, False, None]),
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
    figures = [
        Figure("configurations", count, 45),
        Figure("predictions outside of their bounds", off, 0, is_limit=True),
    ]
    return errors, figures


@dataclass(frozen=True)
class Way:
    """A way to take the step, with the allocator's bytes and a whole step's seconds, measured."""

    micro_batch: int
    variant: Variant
    taken_bytes: int
    step_s: float


def plans(short: bool) -> tuple[dict[str, Any], list[Figure]]:
    """Budgets from just above the smallest way to more than enough for all."""
    found = []
    for name in list(MODELS)[: 1 if short else None]:
        steps = training(name, "adamw")
        ways = every_way(steps, name, 1 if short else ROUNDS)
        floor, most = min(one.taken_bytes for one in ways), max(one.taken_bytes for one in ways)
        predictor = Predictor(steps, CPU)
        print(f"{name}: {len(ways)} ways of {floor:,} to {most:,} bytes", flush=True)
        for share in SHARES:
            budget = int(floor + share * (most - floor)) + SPARE_BYTES
            found.append({"model": name, "share": share, "budget_bytes": budget, **held(predictor, name, budget, ways)})
            print(json.dumps(found[-1]), flush=True)
    fit = [one["ratio"] for one in found if one["fits"]]
    figures = [
        Figure("plans that fit their budget", len(fit), len(found)),
        Figure("pairs of model and budget", len(found), 40),
        Figure("largest cost of a plan to the best way's", max(fit, default=math.inf), 1.15, is_limit=True),
    ]
    return {"plans": found, "median_ratio": statistics.median(fit) if fit else None}, figures


def held(predictor: Predictor, name: str, budget: int, ways: list[Way]) -> dict[str, Any]:
    """A plan beside what is known of every way; a budget that is refused although something fits does not fit."""
    try:
        chosen = find_plan(predictor, space(name), budget, "budget").chosen
    except InputError as error:
        return {"fits": False, "refused": str(error), "ratio": None}
    own = next(one for one in ways if (one.micro_batch, one.variant) == (chosen.micro_batch, chosen.variant))
    best = min((one for one in ways if one.taken_bytes <= budget), key=lambda one: one.step_s)
    return {
        "fits": own.taken_bytes <= budget, "plan": told(chosen), "taken_bytes": own.taken_bytes,
        "predicted_bytes": chosen.predicted_bytes, "ratio": own.step_s / best.step_s,
        "best": [best.micro_batch, str(best.variant)],
    }  # fmt: skip


def every_way(steps: TrainingSteps, name: str, rounds: int) -> list[Way]:
    """All there is, taken: its bytes once, and its seconds as the least of rounds in which all take turns."""
    among = space(name)
    asked = [
        (-(-ROWS // count), Variant(count, again, numerics.precision, update, numerics.layout))
        for count in (1, 2, 4, 8, 16, 32)
        for again in (False, True)
        for numerics in among.numerics
        for update in (True, False, None)
    ]
    sizes = [measured_bytes(steps, rows, variant, CPU) for rows, variant in asked]
    running = [steps.open(copy.deepcopy(steps.module), rows, variant, unwatched) for rows, variant in asked]
    for one in running:
        one()
    least = [math.inf] * len(asked)
    for _ in range(rounds):
        for number, one in enumerate(running):
            start = time.process_time()  # one thread does everything, and others' work does not count
            one()
            least[number] = min(least[number], time.process_time() - start)
    return [Way(*point, size, spent) for point, size, spent in zip(asked, sizes, least, strict=True)]


def space(name: str) -> Space:
    """What the plans choose among: float32, and bf16 in the layout that suits it."""
    layout: Layout = "contiguous" if name in ("mlp", "transformer") else "channels_last"
    return Space(ROWS, (PLAIN, Numerics("bf16", layout)))


def warm(short: bool) -> tuple[dict[str, Any], list[Figure]]:
    found = {}
    for name in MODELS:
        steps, spent = training(name, "adamw"), []
        for _ in range(2 if short else 4):
            start = time.perf_counter()
            Predictor(steps, CPU).peak_bytes(ROWS, Variant(2))
            spent.append(time.perf_counter() - start)
        found[name] = spent
        print(f"{name:12} first {spent[0]:.2f} s, then {min(spent[1:]):.2f} to {max(spent[1:]):.2f} s", flush=True)
    slowest = max(min(spent[1:]) for spent in found.values())
    return found, [Figure("seconds of a prediction when warm, slowest model", slowest, 2.0, is_limit=True)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["peaks", "plans", "warm"])
    parser.add_argument("--short", action="store_true", help="fewer configurations and one model: whether it runs")
    given = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {"load": os.getloadavg()}
    reached: list[Figure] = []
    for part in given.parts:
        results[part], figures = {"peaks": peaks, "plans": plans, "warm": warm}[part](given.short)
        reached += figures
    results["figures"] = show(reached)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
