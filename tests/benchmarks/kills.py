"""A training of two workers, killed with SIGKILL at random steps: a worker, the controller, or the driver.

    kills.py [KILLS] [--seed N] [--precision bf16 fp16] [--short]

Accumulation, clipping and an average of the weights are on; trainings take turns in bf16 and in float16, whose loss is
scaled. `driver at once`: the next driver starts while workers of the killed one may still be at work and write.
Shows for each kill at which step it came, from which the training went on, and how many steps were computed again; and
for each training whether its weights are to the bit those of the one that nobody disturbed. Goes on until as many kills
were made as were asked for. Prints a transcript and a line of JSON; exits with 1 if any of this is not so.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
import torch.distributed as dist
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent.parent))  # for `tests`

import figures

from rayopt.onray.train import RayTrain
from rayopt.training.learner import TaskObjective
from rayopt.training.loop import Trained, Work
from tests.onray.trainings import training

KILLS, SEED = 20, 2026
EACH = 4  # kills of one training
EVERY, EPOCHS, ROWS, PARTS = 15, 6, 1300, 2  # steps from checkpoint to checkpoint; PARTS: micro-batches of a step
VICTIMS = {"worker": "ray::RayTrainWorker", "controller": "ray::TrainController"}
ORDER = ("worker", "controller", "driver", "driver at once")
PRECISIONS = ("bf16", "fp16")
WAIT_S, FIND_S = 300, 30
MOST = 3  # times as many trainings as the kills need, where some end before their kill


class Noting(TaskObjective):
    """Writes a dot for each micro-batch of the first worker, into the newest file below `path` of its process."""

    def __init__(self, path: str) -> None:
        super().__init__(0.1)
        self._path = path

    def forward(self, outputs: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        if dist.get_rank() == 0:
            with max(Path(self._path).glob(f"*-{os.getpid()}")).open("a") as file:
                file.write(".")
        return super().forward(outputs, targets, rows)


@dataclass(frozen=True)
class Noted(Work):
    """Begins a file, and notes there from which step it starts."""

    def run(self, seat: Any) -> Trained:
        if seat.rank == 0:
            steps = sorted(int(path.name.removeprefix("step-")) for path in seat.folder.glob("step-*"))
            place = seat.folder / "lives" / f"{time.time_ns()}-{os.getpid()}"
            place.parent.mkdir(exist_ok=True)
            place.write_text(f"{steps[-1] if steps else 0} ")
        return super().run(seat)


def work(folder: Path, precision: str) -> Noted:
    plain = training(epochs=EPOCHS, every=EVERY, rows=ROWS, width=16)
    fields = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
    objective: nn.Module = Noting(str(folder / "lives"))
    settings = plain.settings.model_copy(update={"precision": precision})
    return Noted(**{**fields, "objective": objective, "settings": settings})


def drive(address: str, folder: Path, precision: str) -> None:
    """What the driver does, whoever has driven before."""
    host = RayTrain(address)
    trained = host.run(work(folder, precision), 2, folder, lambda metrics: None)
    host.close()
    (folder / "end.json").write_text(json.dumps({"sha256": trained.artifact.sha256, "steps": trained.steps}))


@dataclass
class Running:
    """A training under way below `folder`, with the driver that it has at the moment."""

    folder: Path
    address: str
    precision: str

    def start(self) -> None:
        command = [sys.executable, "-W", "ignore", __file__, "--drive", self.address, str(self.folder), self.precision]
        self.driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=(self.folder / "log").open("a"))

    def lives(self) -> list[tuple[int, int]]:
        """For each start of the workers, the step that they went on from, and the one that they have reached."""
        found = []
        for path in sorted((self.folder / "lives").glob("*")):
            start, _, dots = path.read_text().partition(" ")
            if start:
                found.append((int(start), int(start) + len(dots) // PARTS))
        return found

    def reach(self, step: int) -> bool:
        """Waits until the training has come to `step`; False where it ended before."""
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            lives = self.lives()
            if self.driver.poll() is not None:
                return False
            if lives and lives[-1][1] >= step:
                return True
            time.sleep(0.005)
        raise SystemExit(
            f"the training did not come to step {step}: {self.lives()}\n" + (self.folder / "log").read_text()
        )

    def kill(self, victim: str, chance: random.Random) -> int | None:
        """Kills one of the training's own processes, and gives its id; None where the training ended before it."""
        if victim.startswith("driver"):
            if self.driver.poll() is not None:
                return None
            killed = self.driver
            killed.kill()
            killed.wait()
            if victim == "driver":
                psutil.wait_procs([one for name in VICTIMS.values() for one in of_ray(name)], timeout=60)
            self.start()
            return killed.pid
        until = time.monotonic() + FIND_S
        while self.driver.poll() is None and time.monotonic() < until:
            found = of_ray(VICTIMS[victim])
            if found:
                one = chance.choice(found)
                os.kill(one.pid, signal.SIGKILL)
                return one.pid
            time.sleep(0.05)
        return None


def of_ray(name: str) -> list[psutil.Process]:
    """The processes with that title of the Ray that this process has started."""
    found = []
    for one in psutil.Process().children(recursive=True):
        try:
            if "".join(one.cmdline()[:1]).startswith(name):
                found.append(one)
        except psutil.Error:
            continue
    return found


def disturbed(running: Running, victims: list[str], chance: random.Random, steps: int) -> dict[str, Any]:
    """One training to its end, with a kill at a random step of each of as many parts as there are victims.

    What is left of the victims, where the training ended before them, is `spared`.
    """
    running.start()
    kills: list[dict[str, Any]] = []
    for number, victim in enumerate(victims):
        at = int(steps * (number + chance.random()) / len(victims))
        if not running.reach(max(1, at)):
            break
        before = running.lives()
        pid = running.kill(victim, chance)
        if pid is None:
            break
        kills.append({"victim": victim, "pid": pid, "life": len(before) - 1, "wanted": at, "at": before[-1][1]})
    code = running.driver.wait(timeout=WAIT_S)
    if code:
        raise SystemExit((running.folder / "log").read_text())
    lives = running.lives()
    for kill in kills:
        if kill["victim"] != "driver at once":  # whose workers may go on for a while, and that is no work that is lost
            kill["at"] = lives[kill["life"]][1]
        again = lives[kill["life"] + 1][0] if kill["life"] + 1 < len(lives) else steps
        kill.update(went_on_from=again, again=max(0, kill["at"] - again))
    end = json.loads((running.folder / "end.json").read_text())
    return {"precision": running.precision, "kills": kills, "spared": victims[len(kills) :], "lives": lives, **end}


def show(number: int, result: dict[str, Any]) -> None:
    for kill in result["kills"]:
        print(
            f"training {number}: killed the {kill['victim']:14} ({kill['pid']}) at step {kill['at']:3}, "
            f"went on from {kill['went_on_from']:3}, {kill['again']:2} steps again"
        )
    same = "THE SAME" if result["same"] else "DIFFERENT"
    print(f"training {number}, {result['precision']}: weights {same}", flush=True)


def trainings(place: Path, address: str, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Disturbed trainings until all victims were killed; raises SystemExit where that does not come."""
    chance = random.Random(asked.seed)
    left = [ORDER[number % len(ORDER)] for number in range(asked.kills)]
    chance.shuffle(left)
    whole: dict[str, dict[str, Any]] = {}
    results: list[dict[str, Any]] = []
    while left and len(results) < MOST * -(-asked.kills // EACH):
        precision = asked.precision[len(results) % len(asked.precision)]
        if precision not in whole:
            whole[precision] = disturbed(_fresh(place, precision, address, precision), [], chance, 0)
            told = f"{whole[precision]['steps']} steps, a checkpoint every {EVERY}"
            print(f"undisturbed, {precision}: {told}; weights {whole[precision]['sha256'][:12]}", flush=True)
        running = _fresh(place, str(len(results)), address, precision)
        result = disturbed(running, left[:EACH], chance, whole[precision]["steps"])
        result["same"] = result["sha256"] == whole[precision]["sha256"]
        left[:EACH] = result["spared"]
        results.append(result)
        show(len(results), result)
    return results


def _fresh(place: Path, name: str, address: str, precision: str) -> Running:
    (place / name).mkdir()
    return Running(place / name, address, precision)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kills", nargs="?", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--short", action="store_true", help="four kills in one training: whether it runs")
    asked = parser.parse_args()
    if asked.short:
        asked.kills, asked.precision = EACH, asked.precision[-1:]
    ray.init("local", num_cpus=2, include_dashboard=True, log_to_driver=False, logging_level=logging.ERROR)
    with tempfile.TemporaryDirectory() as place:
        results = trainings(Path(place), ray.get_runtime_context().gcs_address, asked)
    ray.shutdown()
    kills = [kill for result in results for kill in result["kills"]]
    same = sum(len(result["kills"]) for result in results if result["same"])
    most = max((kill["again"] for kill in kills), default=0)
    reached = figures.show(
        [
            figures.Figure("kills", len(kills), asked.kills),
            figures.Figure("kills after which the weights were the undisturbed run's", same, asked.kills),
            figures.Figure("most steps again", most, EVERY, is_limit=True),
        ]
    )
    told = {"seed": asked.seed, "every": EVERY, "load": os.getloadavg()[0], "trainings": results, "figures": reached}
    print(json.dumps(told))
    if not all(one["reached"] for one in reached):
        raise SystemExit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--drive"]:
        drive(sys.argv[2], Path(sys.argv[3]), sys.argv[4])
    else:
        main()
