"""Samples a second of one worker's training, beside a plain loop that is written by hand.

`same`: in float32, as the loop by hand. `auto`: with what the probe finds fastest. `saved`: with a checkpoint and a
report each second, beside a training with neither but at the ends of epochs. Both take turns by the epoch in one
process and on one thread; a ratio is of two epochs that follow each other.
`equal`: accuracies of both on rows that neither has seen, by several seeds, with what the probe has found.
`make bench-train` prints a table, what was reached of what was asked for, and a line of JSON; no test depends on it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from figures import Figure, show
from train_by_hand import data, network

from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.models.torch_model import build, from_artifact, to_artifact
from rayopt.training.learner import TaskObjective
from rayopt.training.loop import Loop, Trained, Work
from rayopt.training.seat import OneSeat
from rayopt.training.settings import TrainSettings
from rayopt.training.source import Arrays

TEST = 1000  # rows that are kept for the accuracy
NEVER = {"every_s": 1e9}
EACH_SECOND = {"every_s": 2.0}  # of which each side has the machine for one
LR = 0.05
FLOORS = {"same": 0.97, "auto": 2.0, "saved": 0.97}
CASES = [  # row, model, batch, times that an epoch goes through the rows
    ("same", "cnn", 32, 1),
    ("same", "cnn", 256, 1),
    ("same", "mlp", 32, 10),
    ("same", "mlp", 512, 30),
    ("auto", "cnn", 32, 1),
    ("auto", "cnn", 256, 1),
    ("auto", "mlp", 32, 10),
    ("saved", "cnn", 32, 1),
    ("saved", "mlp", 32, 10),
]


def rows(times: int) -> tuple[Arrays, Arrays]:
    """Rows to train on, so many times over, and others."""
    x, y = (array.numpy() for array in data())
    mixed = np.random.default_rng(0).permutation(len(x))
    train, test = np.tile(mixed[TEST:], times), mixed[:TEST]
    return Arrays(x[train], y[train]), Arrays(x[test], y[test])


class ByHand:
    """The loop of a tutorial: SGD, a one-cycle schedule, a running loss."""

    def __init__(self, name: str, rows: Arrays, batch: int, epochs: int, seed: int = 0) -> None:
        self.model, self._seed = network(name, seed), seed
        self._rows, self._batch, self._count = rows, batch, epochs
        self.score = lambda test: accuracy(self.model, test)

    def run(self, turn: Callable[[], None]) -> None:
        x, y = torch.tensor(self._rows.x), torch.tensor(self._rows.y)
        steps = self._count * -(-len(x) // self._batch)
        optimizer = torch.optim.SGD(self.model.parameters(), LR, momentum=0.9, weight_decay=5e-4, nesterov=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps, cycle_momentum=False)
        self.model.train()
        generator = torch.Generator().manual_seed(self._seed)
        for _ in range(self._count):
            total = 0.0
            for at in torch.randperm(len(x), generator=generator).split(self._batch):
                optimizer.zero_grad()
                loss = F.cross_entropy(self.model(x[at]), y[at])
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item() * len(at)
            turn()


class Silent(Loop):
    """Neither reports nor saves on the way."""

    def _look_up(self, epoch: int) -> None:
        pass


class Ours:
    """The same as a Work of ours."""

    def __init__(
        self, name: str, rows: Arrays, batch: int, epochs: int, seed: int = 0, loop: type[Loop] = Loop, **settings: Any
    ) -> None:
        asked = {"optimizer": {"lr": LR}, "keep": "last", **settings}
        self._settings = TrainSettings(epochs=epochs, batch_size=batch, **asked)
        model = {"factory": "train_by_hand:network", "args": {"name": name, "seed": seed}}
        self._seed, self._loop = seed, loop
        self._source = ModelSource(ModelSettings.model_validate(model), "")
        self._rows = rows
        self.trained: Trained | None = None

    def run(self, turn: Callable[[], None]) -> None:
        first = to_artifact(build(self._source, 0))
        work = Work(first, self._source, self._rows, TaskObjective(), self._settings, self._seed)
        per_epoch = -(-self._rows.count // self._settings.batch_size)

        def told(metrics: Mapping[str, float]) -> None:
            if metrics["step"] % per_epoch == 0:
                turn()

        with tempfile.TemporaryDirectory() as folder:
            self.trained = self._loop(work, OneSeat(Path(folder), told)).run()

    def score(self, test: Arrays) -> float:
        assert self.trained is not None
        return accuracy(from_artifact(self.trained.artifact, self._source, 0), test)


def accuracy(model: torch.nn.Module, test: Arrays) -> float:
    with torch.no_grad():
        return float((model.eval()(torch.tensor(test.x)).argmax(1).numpy() == test.y).mean())


class Turns:
    """Two runs, each in a thread of its own, of which one goes on at a time; seconds of each one's turns."""

    def __init__(self, *runs: Callable[[Callable[[], None]], None]) -> None:
        self._batons = [threading.Semaphore(number == 0) for number, _ in enumerate(runs)]
        self._over = [False] * len(runs)
        self._failed: list[BaseException] = []
        self.seconds: list[list[float]] = [[] for _ in runs]
        threads = [threading.Thread(target=self._run, args=(number, run)) for number, run in enumerate(runs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failed:
            raise self._failed[0]

    def _run(self, number: int, run: Callable[[Callable[[], None]], None]) -> None:
        torch.set_num_threads(1)
        self._batons[number].acquire()
        began = [time.perf_counter()]

        def turn() -> None:
            self.seconds[number].append(time.perf_counter() - began[0])
            self._pass(number)
            self._batons[number].acquire()
            began[0] = time.perf_counter()

        try:
            run(turn)
        except BaseException as error:  # noqa: BLE001 - it is raised where the turns are waited for
            self._failed.append(error)
        self._over[number] = True
        self._pass(number)

    def _pass(self, number: int) -> None:
        other = 1 - number
        self._batons[number if self._over[other] else other].release()


def measure(row: str, name: str, batch: int, times: int, epochs: int) -> dict[str, Any]:
    train, _ = rows(times)
    plain: dict[str, Any] = {"precision": "fp32", "layout": "contiguous"}
    if row == "saved":
        one = Ours(name, train, batch, epochs, checkpoint=EACH_SECOND, **plain)
        other: Ours | ByHand = Ours(name, train, batch, epochs, loop=Silent, checkpoint=NEVER, **plain)
    else:
        one = Ours(name, train, batch, epochs, checkpoint=NEVER, **({} if row == "auto" else plain))
        other = ByHand(name, train, batch, epochs)
    ours, theirs = (turns[1:] for turns in Turns(one.run, other.run).seconds)  # the first includes what starts
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    assert one.trained is not None
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "row": row, "model": name, "batch": batch, "ratio": middle, "low": low, "high": high, "floor": FLOORS[row],
        "n": len(ratios), "ours_per_s": train.count / statistics.median(ours),
        "other_per_s": train.count / statistics.median(theirs),
        "numerics": f"{one.trained.precision} {one.trained.layout}",
        "probed": list(one.trained.probed),
    }  # fmt: skip


def equal(numerics: str, seeds: int) -> dict[str, Any]:
    """Accuracies of the CNN in these numerics and by hand in float32, with the same seeds."""
    precision, layout = numerics.split()
    train, test = rows(1)
    pairs = []
    for seed in range(seeds):
        plain: dict[str, Any] = {"precision": precision, "layout": layout, "checkpoint": NEVER}
        both = (Ours("cnn", train, 64, 3, seed, **plain), ByHand("cnn", train, 64, 3, seed))
        for one in both:
            one.run(lambda: None)
        pairs.append([100 * one.score(test) for one in both])
    gains = [ours - other for ours, other in pairs]
    mean, error = statistics.mean(gains), statistics.stdev(gains) / math.sqrt(seeds) if seeds > 1 else math.nan
    print(f"equal  cnn    accuracies by seed {pairs}: {mean:+.2f} points, standard error {error:.2f}", flush=True)
    return {"row": "equal", "numerics": numerics, "pairs": pairs, "mean": mean, "error": error}


def figures(found: list[dict[str, Any]]) -> list[Figure]:
    """What was measured of what was asked for; of `auto` twice the speed is asked of the CNN alone."""
    told = []
    for one in found:
        if one["row"] == "equal":
            told.append(Figure("points of accuracy auto may lose, 2 errors off", one["mean"] - 2 * one["error"], -0.5))
        elif one["row"] != "auto" or one["model"] == "cnn":
            told.append(Figure(f"{one['row']} {one['model']} {one['batch']}", one["ratio"], FLOORS[one["row"]]))
    return told


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("only", nargs="*", help="rows or models, such as `same` or `mlp`")
    parser.add_argument("--epochs", type=int, default=13)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--short", action="store_true", help="4 epochs and 2 seeds: whether it runs")
    asked = parser.parse_args()
    epochs, seeds = (4, 2) if asked.short else (asked.epochs, asked.seeds)
    torch.set_num_threads(1)
    print("row    model  batch  ratio quartiles    floor  n   ours/s  other/s  numerics")
    found: list[dict[str, Any]] = []
    for row, name, batch, times in CASES:
        if set(asked.only) <= {row, name, str(batch)}:
            one = measure(row, name, batch, times, epochs)
            found.append(one)
            rates = f"{one['ours_per_s']:8.0f} {one['other_per_s']:8.0f}"
            print(
                f"{row:6} {name:5} {batch:6} {one['ratio']:6.3f} {one['low']:.3f} {one['high']:.3f} "
                f"{one['floor']:6.2f} {one['n']:2} {rates}  {one['numerics']}",
                flush=True,
            )
    numerics = next((one["numerics"] for one in found if (one["row"], one["model"]) == ("auto", "cnn")), None)
    if numerics is not None:
        found.append(equal(numerics, seeds))
    reached = show(figures(found))
    told = {"load": os.getloadavg(), "cpus": os.cpu_count(), "test_n": TEST, "training": found, "figures": reached}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
