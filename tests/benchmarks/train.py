"""Two workers of Ray Train beside torchrun, what our start adds to Ray Train's own, and what reports cost.

    train.py [speed] [start] [reports] [--rounds N]

`speed`: samples a second of this program's training to those of a loop by hand under torchrun (train_by_hand.py), both
of two workers with one thread each, in turns in one run; while it is torchrun's turn all of Ray is stopped (SIGSTOP).
`start`: seconds to the first step, of a bare TorchTrainer and of ours on the same Ray, in turns; and of ours when its
workers are there from the training before. `reports`: samples a second with a report and a checkpoint each second to
those without. `make bench-train` prints tables and a line of JSON; nothing here decides a test.
"""

from __future__ import annotations

import argparse
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

sys.path.insert(0, str(Path(__file__).parent))
import train_by_hand

from rayopt.onray import kept
from rayopt.onray.train import RayTrain

HERE = Path(__file__).parent
SLICES = {"cnn": {"model": "cnn", "batch": 64, "epochs": 1}, "mlp": {"model": "mlp", "batch": 64, "epochs": 10}}


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
        self._found = [one for one in psutil.Process().children(recursive=True) if "ray" in " ".join(one.cmdline()[:3])]
        self._signal(signal.SIGSTOP)

    def __exit__(self, *error: object) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for one in self._found:
            one.send_signal(number)


def speed(rounds: int, folder: Path) -> dict[str, Any]:
    """Pairs of samples a second, ours and torchrun's, after one of each that is not counted."""
    host, torchrun = RayTrain(), Torchrun(folder)
    x, y = (array.numpy() for array in train_by_hand.data())
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in SLICES}
    for number in range(rounds + 1):
        for name, asked in SLICES.items():
            work = train_by_hand.ByHand(**asked, x=x, y=y)
            ours = host.run(work, 2, folder, lambda metrics: None)
            with Stopped():
                theirs = torchrun.run(asked)
            if number:
                found[name].append((ours, theirs))
    torchrun.stop()
    host.close()
    return {name: _ratio(pairs) for name, pairs in found.items()}


def start(rounds: int, folder: Path) -> dict[str, Any]:
    """Seconds to the first step: of a bare trainer, of ours, and of ours with warm workers."""
    host = RayTrain()
    rows: dict[str, list[float]] = {"bare": [], "ours": [], "warm": []}
    for number in range(rounds):
        rows["bare"].append(_bare(folder, number))
        kept.dismiss()
        for name in ("ours", "warm"):
            began = time.time()
            rows[name].append(host.run(train_by_hand.FirstStep(), 2, folder, lambda metrics: None) - began)
        kept.dismiss()
    host.close()
    return {name: {"median_s": statistics.median(row), "all_s": row} for name, row in rows.items()}


def _bare(folder: Path, number: int) -> float:
    """Ray Train as its documentation shows it."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    began = time.time()
    run_config: Any = RunConfig(name=f"bare-{number}", storage_path=str(folder))
    result = TorchTrainer(bare_loop, scaling_config=ScalingConfig(num_workers=2), run_config=run_config).fit()
    return float(result.return_value) - began  # type: ignore[attr-defined]


def bare_loop() -> float:
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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["speed", "start"])
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    ray.init("local", num_cpus=2, include_dashboard=True, log_to_driver=False, logging_level=logging.ERROR)
    ray.cloudpickle.register_pickle_by_value(train_by_hand)
    results: dict[str, Any] = {"load": os.getloadavg()[0], "rounds": given.rounds}
    with tempfile.TemporaryDirectory() as folder:
        for part in given.parts:
            place = Path(folder) / part
            place.mkdir()
            results[part] = {"speed": speed, "start": start}[part](given.rounds, place)
            for name, row in results[part].items():
                print(
                    part, name, {key: value for key, value in row.items() if key not in ("pairs", "all_s")}, flush=True
                )
    ray.shutdown()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
