"""Two workers of Ray Train beside torchrun, what our start adds to Ray Train's own, and what reports cost.

    train.py [speed] [start] [reports] [--rounds N] [--short]

`speed`: samples a second of this program's training, and of a loop by hand in a group of its workers, to those of the
same loop and model under torchrun (train_by_hand.py), all of two workers with one thread each and in fp32, in turns in
one run; while it is torchrun's turn all of Ray is stopped (SIGSTOP). All are timed by the wall clock from a barrier
before the first step to one after all is done: ours with the ends of its epochs, its reports and its last checkpoint,
which the loop by hand has none of; `steps alone` is ours without them.
`start`: seconds to the first step, of a bare TorchTrainer and of ours on the same Ray, in turns; and of ours when its
workers are there from the training before. `reports`: samples a second with a report and a checkpoint each second to
those with neither until the end; which comes first changes from pair to pair.
`make bench-train` prints tables, what was reached of what was asked for, and a line of JSON; no test depends on it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import ray
import ray.train
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parent))
import train_by_hand
from figures import Figure, show

from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.models.torch_model import build, to_artifact
from rayopt.onray import group, kept
from rayopt.onray.processes import RAY_FOLDER
from rayopt.onray.train import RayTrain
from rayopt.plugins import importable
from rayopt.training.learner import TaskObjective
from rayopt.training.loop import Loop, Work
from rayopt.training.settings import CheckpointSettings, OptimizerSettings, TrainSettings
from rayopt.training.source import Arrays

HERE = Path(__file__).parent
SLICES: dict[str, dict[str, Any]] = {
    "cnn": {"model": "cnn", "batch": 64, "epochs": 2, "rows": 5000},
    "mlp": {"model": "mlp", "batch": 64, "epochs": 40, "rows": 5000},
}
ROUNDS, SHORT_ROUNDS = 7, 3
NEVER_S = 1e9


class Torchrun:
    """The loop by hand, under torchrun, which waits for its turns."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.turn = folder, 0
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent.parent)}
        self._process = subprocess.Popen(
            [*command, str(HERE / "train_by_hand.py"), str(folder)], env=environment, stderr=subprocess.DEVNULL
        )

    def run(self, asked: dict[str, Any]) -> float:
        go, done = self.folder / f"go.{self.turn}", self.folder / f"done.{self.turn}"
        go.with_suffix(".new").write_text(json.dumps(asked))
        go.with_suffix(".new").rename(go)
        self.turn += 1
        while not done.exists():
            if self._process.poll() is not None:
                raise SystemExit("torchrun ended")
            time.sleep(0.05)
        return float(json.loads(done.read_text())["samples_per_s"])

    def stop(self) -> None:
        (self.folder / "stop").touch()
        self._process.wait(60)


class Stopped:
    """All processes of the Ray that this one has started stand still inside of this context."""

    def __enter__(self) -> None:
        self._found = [one for one in psutil.Process().children(recursive=True) if _is_ray(one.cmdline())]
        self._signal(signal.SIGSTOP)

    def __exit__(self, *error: object) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for one in self._found:
            one.send_signal(number)


def _is_ray(command: list[str]) -> bool:
    return any(word.startswith("ray::") or RAY_FOLDER in word for word in command)


@dataclasses.dataclass(frozen=True)
class Timed(Work):
    """A training that gives samples a second by the wall clock, as `train_by_hand` takes them, and of its steps alone.

    quiet: nothing is reported on the way.
    """

    quiet: bool = False

    def run(self, seat: Any) -> Any:
        if self.quiet:
            seat.report = lambda metrics, checkpoint: False
        with importable(self.source.folder):
            loop = Loop(self, seat)
            dist.barrier()
            start = time.perf_counter()
            trained = loop.run()
            dist.barrier()
        return self.settings.epochs * self.rows.count / (time.perf_counter() - start), trained.samples_per_s


def speed(rounds: int, folder: Path) -> dict[str, Any]:
    """Samples a second by turns, after one turn of each that is not counted."""
    host, torchrun = RayTrain(), Torchrun(folder)
    x, y = (array.numpy() for array in train_by_hand.data())
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in SLICES}
    for number in range(rounds + 1):
        for name, asked in SLICES.items():
            work = engine_work(**asked, x=x, y=y)
            ours, steps = _rates(host, work, folder / f"{name}-{number}")
            by_hand: Any = host.run(train_by_hand.ByHand(**asked, x=x, y=y), 2, folder, lambda metrics: None)
            with Stopped():
                theirs = torchrun.run(asked)
            print(f"{name}: {ours:.0f} by hand {by_hand:.0f} torchrun {theirs:.0f}", file=sys.stderr)
            if number:
                found[name].append((ours, by_hand, steps, theirs))
    torchrun.stop()
    host.close()
    return {
        f"{name}: {title}": _ratio([(row[column], row[-1]) for row in rows])
        for name, rows in found.items()
        for column, title in enumerate(("ours", "by hand on Ray", "steps alone"))
    }


def _rates(host: RayTrain, work: Timed, folder: Path) -> tuple[float, float]:
    rates: Any = host.run(work, 2, folder, lambda metrics: None)
    return rates


def engine_work(
    model: str, batch: int, epochs: int, rows: int, x: Any, y: Any, every_s: float | None = None, quiet: bool = False
) -> Timed:
    """The step engine's training that does what the loop by hand does, with the same model."""
    settings = ModelSettings(factory="train_by_hand:network", args={"name": model})
    source = ModelSource(settings, str(HERE))
    train = TrainSettings(
        epochs=epochs, batch_size=batch, precision="fp32", layout="contiguous", keep="last",
        optimizer=OptimizerSettings(lr=0.05), checkpoint=CheckpointSettings(every_s=every_s),
    )  # fmt: skip
    with importable(source.folder):
        first = to_artifact(build(source, 0))
    return Timed(first, source, Arrays(x[:rows], y[:rows]), TaskObjective(), train, 0, quiet=quiet)


def reports(rounds: int, folder: Path) -> dict[str, Any]:
    """Samples a second with a checkpoint and a report each second to those with neither until the end."""
    host = RayTrain()
    x, y = (array.numpy() for array in train_by_hand.data())
    _first_step(host, folder)
    ms: Any = host.run(train_by_hand.Reports(), 2, folder, lambda metrics: None)
    asked = {**SLICES["cnn"], "epochs": 3 * SLICES["cnn"]["epochs"]}
    pairs = []
    for number in range(rounds):
        rates = {}
        for quiet in (False, True) if number % 2 else (True, False):
            work = engine_work(**asked, x=x, y=y, every_s=NEVER_S if quiet else 1.0, quiet=quiet)
            rates[quiet], _ = _rates(host, work, folder / f"{number}-{quiet}")
        print(f"each second {rates[False]:.0f} without {rates[True]:.0f}", file=sys.stderr)
        pairs.append((rates[False], rates[True]))
    host.close()
    return {"one report": {"ms": ms}, "each second": _ratio(pairs)}


def start(rounds: int, folder: Path) -> dict[str, Any]:
    """Seconds to the first step: of a bare trainer, of ours, and of ours with warm workers.

    `own` is what of ours is spent in our code: before Ray Train's `fit`, and in a worker before the work itself begins.
    """
    host = RayTrain()
    rows: dict[str, list[float]] = {"bare": [], "ours": [], "warm": [], "own": []}
    fit, group.Group._run = group.Group._run, _fit_noted  # type: ignore[method-assign]
    group.serve = _serve_noted
    _noted.update(fit=fit, folder=folder)
    for number in range(rounds):
        rows["bare"].append(_bare(folder, number))
        kept.dismiss()
        for name in ("ours", "warm"):
            began = time.time()
            started, stepped = _first_step(host, folder)
            rows[name].append(stepped - began)
            if name == "ours":
                rows["own"].append(_noted["fitted"] - began + started - float((folder / "served").read_text()))
        kept.dismiss()
    host.close()
    return {name: {"median_s": statistics.median(row), "all_s": row} for name, row in rows.items()}


_noted: dict[str, Any] = {}


def _fit_noted(self: Any) -> None:
    _noted["fitted"] = time.time()
    _noted["fit"](self)


def _serve_noted(config: dict[str, Any]) -> None:
    """In a worker, where what is called here is as it was."""
    (Path(ray.train.get_context().get_storage().storage_fs_path) / "served").write_text(repr(time.time()))
    group.serve(config)


def _first_step(host: RayTrain, folder: Path) -> tuple[float, float]:
    times: Any = host.run(train_by_hand.FirstStep(), 2, folder, lambda metrics: None)
    return times[0], times[1]


def _bare(folder: Path, number: int) -> float:
    """Ray Train as its documentation shows it."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    began = time.time()
    run_config: Any = RunConfig(name=f"bare-{number}", storage_path=str(folder))
    result = TorchTrainer(bare_loop, scaling_config=ScalingConfig(num_workers=2), run_config=run_config).fit()
    returned: Any = result
    return float(returned.return_value[1]) - began


def bare_loop() -> list[float]:
    from ray.train.torch import prepare_model

    class Seat:
        wrap = staticmethod(prepare_model)

    return train_by_hand.FirstStep().run(Seat())


def _ratio(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    """Medians, the median of the ratios by pair, and their quartiles."""
    ratios = [ours / theirs for ours, theirs in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {"ours": ours, "theirs": theirs, "ratio": middle, "quartiles": [low, high], "pairs": pairs}


def figures(results: dict[str, Any]) -> list[Figure]:
    """What was measured of what was asked for."""
    found = [
        Figure(f"samples/s to torchrun's, {name}", row["ratio"], 0.97)
        for name, row in results.get("speed", {}).items()
        if name.endswith("ours")
    ]
    if "start" in results:
        rows = {name: row["median_s"] for name, row in results["start"].items()}
        found.append(Figure("our share of the start, s", rows["own"], 1.0, is_limit=True))
        found.append(Figure("the start beyond a bare trainer's, s", rows["ours"] - rows["bare"], 1.0, is_limit=True))
    if "reports" in results:
        cost = 1 - results["reports"]["each second"]["ratio"]
        found.append(Figure("cost of a report and a checkpoint each second", cost, 0.03, is_limit=True))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["speed", "start", "reports"])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--short", action="store_true", help=f"{SHORT_ROUNDS} rounds of 1000 rows: whether it runs")
    given = parser.parse_args()
    rounds = given.rounds or (SHORT_ROUNDS if given.short else ROUNDS)
    for asked in SLICES.values() if given.short else ():
        asked["rows"] = 1000
    ray.init("local", num_cpus=2, include_dashboard=True, log_to_driver=False, logging_level=logging.ERROR)
    ray.cloudpickle.register_pickle_by_value(train_by_hand)
    results: dict[str, Any] = {"load": os.getloadavg()[0], "rounds": rounds}
    with tempfile.TemporaryDirectory() as folder:
        for part in given.parts:
            place = Path(folder) / part
            place.mkdir()
            results[part] = {"speed": speed, "start": start, "reports": reports}[part](rounds, place)
            for name, row in results[part].items():
                print(
                    part, name, {key: value for key, value in row.items() if key not in ("pairs", "all_s")}, flush=True
                )
    ray.shutdown()
    results["figures"] = show(figures(results))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
