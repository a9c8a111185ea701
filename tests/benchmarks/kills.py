"""A training of two workers, killed with SIGKILL at random steps: a worker, the controller, or the driver.

    kills.py [KILLS] [SEED]

bf16, accumulation, clipping and an average of the weights are on. Shows for each kill at which step it came, from which
the training went on, and how many steps were computed again; and for each training whether its weights are to the bit
those of the one that nobody disturbed. Prints a transcript and a line of JSON; exits with 1 if any of this is not so.
"""

from __future__ import annotations

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

from rayopt.onray.train import RayTrain
from rayopt.training.learner import TaskObjective
from rayopt.training.loop import Trained, Work
from tests.onray.trainings import training

KILLS, SEED = 20, 2026
EACH = 4  # kills of one training
EVERY, EPOCHS, ROWS, PARTS = 15, 6, 1300, 2  # steps from checkpoint to checkpoint; PARTS: micro-batches of a step
VICTIMS = {"worker": "ray::RayTrainWorker", "controller": "ray::TrainController"}
WAIT_S = 300


class Noting(TaskObjective):
    """Writes a dot into `path` for each micro-batch of the first worker."""

    def __init__(self, path: str) -> None:
        super().__init__(0.1)
        self._path = path

    def forward(self, outputs: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        if dist.get_rank() == 0:
            with Path(self._path).open("a") as file:
                file.write(".")
        return super().forward(outputs, targets, rows)


@dataclass(frozen=True)
class Noted(Work):
    """Notes as well from which step it starts."""

    def run(self, seat: Any) -> Trained:
        if seat.rank == 0:
            steps = sorted(int(path.name.removeprefix("step-")) for path in seat.folder.glob("step-*"))
            with (seat.folder / "lives").open("a") as file:
                file.write(f"\n{steps[-1] if steps else 0} ")
        return super().run(seat)


def work(folder: Path) -> Noted:
    plain = training(epochs=EPOCHS, every=EVERY, rows=ROWS, width=16)
    fields = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
    objective: nn.Module = Noting(str(folder / "lives"))
    return Noted(**{**fields, "objective": objective})


def drive(address: str, folder: Path) -> None:
    """What the driver does, whoever has driven before."""
    host = RayTrain(address)
    trained = host.run(work(folder), 2, folder, lambda metrics: None)
    host.close()
    (folder / "end.json").write_text(json.dumps({"sha256": trained.artifact.sha256, "steps": trained.steps}))


@dataclass
class Running:
    """A training under way below `folder`, with the driver that it has at the moment."""

    folder: Path
    address: str

    def start(self) -> None:
        command = [sys.executable, "-W", "ignore", __file__, "--drive", self.address, str(self.folder)]
        self.driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=(self.folder / "log").open("a"))

    def lives(self) -> list[tuple[int, int]]:
        """For each start of the workers, the step that they went on from, and the one that they have reached."""
        path = self.folder / "lives"
        found = []
        for line in (path.read_text() if path.exists() else "").split("\n")[1:]:
            start, _, dots = line.partition(" ")
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
        """Kills one of the training's own processes, and gives its id."""
        if victim == "driver":
            self.driver.kill()
            self.driver.wait()
            psutil.wait_procs([one for name in VICTIMS.values() for one in of_ray(name)], timeout=60)
            self.start()
            return self.driver.pid
        found = of_ray(VICTIMS[victim])
        if not found:
            return None
        one = chance.choice(found)
        os.kill(one.pid, signal.SIGKILL)
        return one.pid


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


def disturbed(folder: Path, address: str, victims: list[str], chance: random.Random, steps: int) -> dict[str, Any]:
    """One training to its end, with a kill at a random step of each of as many parts as there are victims."""
    running = Running(folder, address)
    running.start()
    kills = []
    for number, victim in enumerate(victims):
        at = int(steps * (number + chance.random()) / len(victims))
        if not running.reach(max(1, at)):
            break
        before = running.lives()
        pid = running.kill(victim, chance)
        if pid is None:
            continue
        kills.append({"victim": victim, "pid": pid, "life": len(before) - 1, "wanted": at})
    code = running.driver.wait(timeout=WAIT_S)
    if code:
        raise SystemExit((folder / "log").read_text())
    lives = running.lives()
    for kill in kills:
        reached, again = lives[kill["life"]][1], lives[kill["life"] + 1][0]
        kill.update(at=reached, went_on_from=again, again=max(0, reached - again))
    return {"kills": kills, "lives": lives, **json.loads((folder / "end.json").read_text())}


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else KILLS
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else SEED
    chance = random.Random(seed)
    victims = [["worker", "controller", "driver"][number % 3] for number in range(count)]
    chance.shuffle(victims)
    ray.init("local", num_cpus=2, include_dashboard=True, log_to_driver=False, logging_level=logging.ERROR)
    address = ray.get_runtime_context().gcs_address
    results = []
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / str(number) for number in range(1 + -(-count // EACH))]
        for folder in folders:
            folder.mkdir()
        whole = disturbed(folders[0], address, [], chance, 0)
        steps = whole["steps"]
        print(f"undisturbed: {steps} steps, a checkpoint every {EVERY}; weights {whole['sha256'][:12]}", flush=True)
        for number, folder in enumerate(folders[1:]):
            result = disturbed(folder, address, victims[number * EACH : (number + 1) * EACH], chance, steps)
            result["same"] = result["sha256"] == whole["sha256"]
            results.append(result)
            for kill in result["kills"]:
                print(
                    f"training {number + 1}: killed the {kill['victim']:10} ({kill['pid']}) at step {kill['at']:3}, "
                    f"went on from {kill['went_on_from']:3}, {kill['again']:2} steps again"
                )
            print(f"training {number + 1}: weights {'THE SAME' if result['same'] else 'DIFFERENT'}", flush=True)
    ray.shutdown()
    kills = [kill for result in results for kill in result["kills"]]
    same = sum(len(result["kills"]) for result in results if result["same"])
    most = max(kill["again"] for kill in kills)
    print(
        f"{len(kills)} kills, after {same} of them the weights were the undisturbed run's; at most {most} steps again"
    )
    print(json.dumps({"seed": seed, "every": EVERY, "load": os.getloadavg()[0], "trainings": results}))
    if same < len(kills) or most > EVERY:
        raise SystemExit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--drive"]:
        drive(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
