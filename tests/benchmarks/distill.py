"""What a teacher is good for, and what it costs: 500 labels of 4000 images of MNIST, a student of 26,506 parameters.

    python tests/benchmarks/distill.py [--seeds 5] [--out FOLDER] [--teacher WEIGHTS] [--only students|epochs] [--short]

The teacher, a CNN, is trained on all 4000 labels, or read from a file of weights. Students differ in the seed of their
weights, the order of their data, and which labels they have; every recipe takes the same number of steps. The loss of
textbooks, half cross entropy and half divergence without T², is read in two ways: `textbook` follows the teacher on
all rows, `labeled rows` on those alone that have a label, which are then all there is. Epochs of the loop that jobs
train by are timed in turns: with stored answers to eight views, without a teacher, and with one that is asked live.
Prints tables, what was reached of what was asked for, and a line of JSON; no test depends on it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from figures import Figure, show
from torch import Tensor, nn

from rayopt import api
from rayopt.data.partial import MISSING
from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.models.torch_model import build, to_artifact
from rayopt.models.zoo import mlp
from rayopt.training.distill_settings import LossSettings
from rayopt.training.distillation import DistillationObjective
from rayopt.training.learner import TaskObjective
from rayopt.training.loop import Loop, Work
from rayopt.training.seat import OneSeat
from rayopt.training.settings import TrainSettings
from rayopt.training.source import Arrays, Source
from rayopt.training.teacher import OUTPUTS, Answers, Stored
from rayopt.training.views import ViewedRows

CNN = {"factory": "rayopt.models.zoo:resnet", "args": {"channels": 1, "classes": 10, "widths": [16, 32, 64]}}
SPLIT = {"test": 0.01, "selection": 0.01, "calibration": 0.01}
BATCHES = (64, 256)
VIEWS, ROUNDS = 8, 15
RECIPES: dict[str, dict[str, Any]] = {
    "textbook": {"loss": {"use": "textbook", "alpha": 0.5}, "views": "none", "alone": False},
    "labeled rows": {"loss": {"use": "textbook", "alpha": 0.5}, "views": "none", "alone": False},
    "default": {},
    "T² alone": {"views": "none", "alone": False},
    "standardized": {"loss": {"use": "standardized"}, "views": "none", "alone": False},
    "pseudo-labels": {"loss": {"use": "hard"}, "views": "none", "alone": False},
}


def data(part: str, **args: Any) -> dict[str, Any]:
    return {"source": "networks:mnist", "args": {"part": part, **args}, "split": SPLIT, "task": "classification"}


def trained_teacher(out: Path, weights: str | None) -> dict[str, Any]:
    if weights is not None:
        return {**CNN, "weights": str(Path(weights).resolve())}
    job = {"kind": "train", "name": "teacher", "model": CNN, "data": data("train"), "epochs": 10}
    api.run(job, out / "teacher", address="inprocess")
    return {"run": str((out / "teacher").resolve())}


def students(out: Path, seeds: int, weights: str | None) -> dict[str, list[float]]:
    """Accuracies in percent by recipe, one for each seed."""
    teacher = trained_teacher(out, weights)
    found: dict[str, list[float]] = {}
    taken = 0
    for seed in range(seeds):
        common = {"kind": "distill", "seed": seed, "student": {"factory": "networks:perceptron"}, "teacher": teacher}
        common |= {"data": data("train", labels=515, seed=seed), "missing": -1, "test": data("test")}
        common |= {"precision": "fp32", "layout": "contiguous"}
        for recipe, fields in RECIPES.items():
            name = f"{recipe.replace(' ', '-').replace('²', '2')}-{seed}"
            if recipe == "labeled rows":  # as many steps as the others, which is more epochs
                fields = {**fields, "data": data("train", labels=515, seed=seed, only=True), "epochs": 400}
                fields["steps"] = taken
            summary = api.run({**common, "name": name, **fields}, out / name, address="inprocess", cache=out / "cache")
            taken = summary["steps_count"]
            named = {recipe: summary["metrics"], **{role: one["metrics"] for role, one in summary["beside"].items()}}
            for role, metrics in named.items():
                if role == recipe or recipe == "default":
                    found.setdefault(role, []).append(100 * metrics["accuracy"])
        job = {"kind": "train", "name": f"all-{seed}", "seed": seed, "model": common["student"], "data": data("train")}
        job |= {"epochs": 40, "batch_size": 64, "clip_norm": 1.0, "keep": "last", "precision": "fp32"}
        found.setdefault("all labels", []).append(_all_labels(job, out / f"all-{seed}"))
        print(json.dumps({"seed": seed, **{role: round(values[-1], 2) for role, values in found.items()}}), flush=True)
    return found


def _all_labels(job: dict[str, Any], out: Path) -> float:
    """The accuracy of a student that has every label, on the same rows as the others."""
    from networks import mnist

    from rayopt.models.onnx_model import MODEL, predict, session
    from rayopt.records import Artifact

    summary = api.run({**job, "layout": "contiguous"}, out, address="inprocess")
    x, y = mnist("test")
    model = Artifact("onnx", {MODEL: (out / summary["path"] / MODEL).read_bytes()})
    return 100 * float((predict(session(model), x).argmax(1) == y).mean())


class Live(nn.Module):
    """The soft loss to a teacher that is asked for every batch."""

    def __init__(self, teacher: nn.Module, x: Tensor) -> None:
        super().__init__()
        self._ask = (teacher.eval(), x)

    def forward(self, outputs: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        teacher, x = self._ask
        with torch.no_grad():
            wanted = F.log_softmax(teacher(x[rows]) / 3, dim=1)
        return F.kl_div(F.log_softmax(outputs / 3, dim=1), wanted, reduction="batchmean", log_target=True) * 9


def epochs(out: Path, batch: int, rounds: int) -> dict[str, float]:
    """CPU seconds of an epoch of 4000 rows to those without a teacher: medians over rounds taken in turns."""
    x = np.random.default_rng(0).normal(size=(4000, 784)).astype(np.float32)
    y = np.random.default_rng(1).integers(0, 10, 4000)
    np.save(out / "answers.npy", np.random.default_rng(2).normal(size=(VIEWS * 4000, 10)).astype(np.float32))
    stored = DistillationObjective([Answers({OUTPUTS: Stored(out / "answers.npy")})], LossSettings(), 0.0)
    np.save(out / "rows.npy", np.tile(x, (VIEWS, 1)))
    views, rows = ViewedRows(Stored(out / "rows.npy"), np.where(y > 0, MISSING, y), VIEWS), Arrays(x, y)
    runs = {"no teacher": _loop(out, rows, TaskObjective(), batch), "stored": _loop(out, views, stored, batch)}
    for times, width in ((10, 256), (40, 704)):
        live = Live(mlp(784, 10, hidden=width), torch.tensor(x))
        runs[f"live, {times}x"] = _loop(out, rows, live, batch)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, loop in runs.items():
            start = time.process_time()
            loop._epoch(number)
            if number:
                taken[name].append(time.process_time() - start)
    base = taken["no teacher"]
    return {name: statistics.median(a / b for a, b in zip(one, base, strict=True)) for name, one in taken.items()}


def _loop(out: Path, rows: Source, objective: nn.Module, batch: int) -> Loop:
    """The loop of a training of the student, of which epochs are taken one by one."""
    args = {"features": 784, "outputs": 10, "hidden": 32}
    source = ModelSource(ModelSettings(factory="rayopt.models.zoo:mlp", args=args), "")
    settings = TrainSettings(epochs=1000, batch_size=batch, clip_norm=1.0, precision="fp32", layout="contiguous")
    return Loop(Work(to_artifact(build(source, 0)), source, rows, objective, settings, 0), OneSeat(out / "none"))


def figures(told: dict[str, Any]) -> list[Figure]:
    found = []
    for batch, ratios in told.get("epochs", {}).items():
        found.append(Figure(f"batch {batch}: an epoch to one without a teacher", ratios["stored"], 1.05, is_limit=True))
        for live, least in (("live, 10x", 2.4), ("live, 40x", 4.4)):
            found.append(Figure(f"batch {batch}: times as fast as {live}", ratios[live] / ratios["stored"], least))
    students = told.get("students", {})
    for reading in ("textbook", "labeled rows") if students else ():
        gains = [a - b for a, b in zip(students["default"], students[reading], strict=True)]
        found.append(Figure(f"points over the textbook's ({reading}), mean", statistics.mean(gains), 3.0))
        found.append(Figure(f"points over the textbook's ({reading}), least", min(gains), 0.01))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out")
    parser.add_argument("--teacher")
    parser.add_argument("--only", choices=("students", "epochs"))
    parser.add_argument("--short", action="store_true", help="one seed and few epochs: whether it runs")
    given = parser.parse_args()
    seeds, rounds = (1, 3) if given.short else (given.seeds, ROUNDS)
    torch.set_num_threads(1)
    out = Path(given.out or tempfile.mkdtemp(prefix="rayopt-distill-")).resolve()
    out.mkdir(parents=True, exist_ok=True)
    weights = given.teacher and str(Path(given.teacher).resolve())
    os.chdir(Path(__file__).parent)  # where `networks` lies
    told: dict[str, Any] = {}
    if given.only != "students":
        told["epochs"] = {batch: epochs(out, batch, rounds) for batch in BATCHES}
        for batch, ratios in told["epochs"].items():
            for name, ratio in ratios.items():
                faster = f"; stored is {ratio / ratios['stored']:.2f}x as fast" if "live" in name else ""
                print(f"batch {batch:4d}  {name:10s} {ratio:6.3f} of an epoch without a teacher{faster}")
    if given.only != "epochs":
        told["students"] = found = students(out, seeds, weights)
        for role, values in found.items():
            gains = [a - b for a, b in zip(values, found["textbook"], strict=True)]
            print(f"{role:16s} {statistics.mean(values):6.2f} %  over the textbook's {statistics.mean(gains):+.2f} "
                  f"(least {min(gains):+.1f})")  # fmt: skip
    told["figures"] = show(figures(told))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
