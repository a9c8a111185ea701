"""The searches of jobs/grid.yaml and jobs/bayes.yaml, their driver killed with SIGKILL at random moments and run again.

    resume_search.py [KILLS] [SEED] [--jobs grid bayes]

Shows for each kill how many evaluations (candidate x fold) were finished by then, and of the same command's second run
how many it took from there, how many it did, how many again, and whether its answer is the undisturbed run's. Then a
process that evaluates is killed under a driver that goes on. Prints a table and a line of JSON, and exits with 1 where
an evaluation was lost or repeated, or an answer differs. With several in flight the Bayesian search may propose other
points when the order of results changes, so that of its answer only the number of evaluations is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from resume import PROGRAM, ROOT, SEED
from resume import Home as DemoHome

END_S = 600
WORKERS = ("rayopt.search.processes", "ImplicitFunc")
COMPARED = {"grid": ("best_params", "best_score", "best_std", "trials"), "bayes": ("folds", "rows")}


@dataclass(frozen=True)
class Home(DemoHome):
    """A run folder of a search with a cache of its own."""

    job: str = "grid"

    def start(self) -> subprocess.Popen[bytes]:
        command = [PROGRAM, "run", str(ROOT / "jobs" / f"{self.job}.yaml"), "--out", str(self.out)]
        environment = {**os.environ, "RAYOPT_CACHE": str(self.folder / "cache"), "RAYOPT_MARK": str(self.folder)}
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, stdout=quiet, stderr=quiet, env=environment, start_new_session=True)

    def finished(self) -> set[str]:
        """The evaluations that are kept, by their keys."""
        return {path.parent.name for path in (self.folder / "cache").rglob("entry.json")}

    def answer(self) -> list[Any]:
        """What does not depend on the clock."""
        summary = self.summary()
        told = [summary[name] for name in COMPARED[self.job]]
        for one in summary["trials"]:
            one.pop("seconds", None)
        return [summary["status"], len(summary["trials"]), told]

    def workers(self) -> list[psutil.Process]:
        return [one for one in self.processes() if any(word in " ".join(one.cmdline()) for word in WORKERS)]


def killed_driver(home: Home, moment: float, whole_s: float, whole: Home) -> dict[str, Any]:
    start = time.perf_counter()
    driver = home.start()
    while driver.poll() is None and time.perf_counter() - start < whole_s * moment:
        time.sleep(0.02)
    had_ended = driver.poll() is not None
    driver.kill()
    driver.wait()
    after_s, before = time.perf_counter() - start, home.finished()
    return {"killed": "driver", "after_s": after_s, "had_ended": had_ended, **again(home, before, whole)}


def killed_worker(home: Home, whole: Home) -> dict[str, Any]:
    """The first process that evaluates, as soon as there is one; the driver is left to go on."""
    start = time.perf_counter()
    driver = home.start()
    while driver.poll() is None and not home.workers():
        time.sleep(0.02)
    found = home.workers()
    if found:
        found[0].kill()
    after_s = time.perf_counter() - start
    code = driver.wait(timeout=END_S)
    row = {"killed": "worker" if found else "nobody", "after_s": after_s, "finished": 0, "cached": 0, "again": 0}
    done = sum(home.summary()["cells"].values())
    return {**row, "lost": 0, "done": done, "same": code == 0 and home.answer() == whole.answer()}


def again(home: Home, before: set[str], whole: Home) -> dict[str, Any]:
    """The same command once more."""
    code = home.start().wait(timeout=END_S)
    cells = home.summary()["cells"]
    done, new = cells["here"] + cells["crews"], len(home.finished() - before)
    return {
        "finished": len(before),
        "cached": cells["cached"],
        "done": done,
        "again": done - new,
        "lost": len(before) - cells["cached"],
        "same": code == 0 and home.answer() == whole.answer(),
    }


def transcript(job: str, kills: int, chance: random.Random, folder: Path) -> list[dict[str, Any]]:
    def home(name: str) -> Home:
        place = folder / f"{job}-{name}"
        place.mkdir()
        return Home(place, job)

    whole = home("whole")
    start = time.perf_counter()
    if whole.start().wait(timeout=END_S):
        raise SystemExit(f"the undisturbed {job} failed:\n{whole.log()}")
    whole_s = time.perf_counter() - start
    print(f"{job} undisturbed: {whole_s:.1f} s, {len(whole.finished())} evaluations", flush=True)
    rows = []
    for number in range(kills):
        # One moment in each part of the run.
        row = killed_driver(home(f"kill{number}"), (number + chance.random()) / kills, whole_s, whole)
        rows.append({"job": job, **row})
        print(shown(rows[-1]), flush=True)
    rows.append({"job": job, **killed_worker(home("worker"), whole)})
    print(shown(rows[-1]), flush=True)
    return rows


def shown(row: dict[str, Any]) -> str:
    told = f"{row['job']:6} {row['killed']:6} killed after {row['after_s']:5.1f} s: {row['finished']:3} finished; then "
    told += f"{row['cached']:3} taken from there, {row['done']:3} evaluated, {row['again']} again, {row['lost']} lost, "
    return told + f"the answer {'equal' if row['same'] else 'DIFFERENT'}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kills", nargs="?", type=int, default=5)
    parser.add_argument("seed", nargs="?", type=int, default=SEED)
    parser.add_argument("--jobs", nargs="+", default=list(COMPARED), choices=COMPARED)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for job in asked.jobs for row in transcript(job, asked.kills, chance, Path(folder))]
    print(json.dumps({"load": os.getloadavg()[0], "kills": rows}))
    if any(row["again"] or row["lost"] or not row["same"] for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
