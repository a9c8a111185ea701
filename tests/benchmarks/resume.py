"""The demo, killed with SIGKILL at random moments and started again by the same command.

    resume.py [KILLS] [SEED]

Shows for each kill what was finished by then and that none of it was computed again, that the end is the undisturbed
run's, and that no process stays. Prints a table and a line of JSON, and exits with 1 if any of this does not hold.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

KILLS, SEED = 6, 2026
ROOT = Path(__file__).parent.parent.parent
PROGRAM = str(Path(sys.executable).parent / "rayopt")
GONE_S = 20  # what a killed driver leaves notices by itself that it is alone


@dataclass(frozen=True)
class Home:
    """A run folder with a cache of its own."""

    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def start(self) -> subprocess.Popen[bytes]:
        command = [PROGRAM, "run", str(ROOT / "jobs" / "quickstart.yaml"), "--out", str(self.out)]
        environment = {**os.environ, "RAYOPT_CACHE": str(self.folder / "cache"), "RAYOPT_MARK": str(self.folder)}
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, stdout=quiet, stderr=quiet, env=environment, start_new_session=True)

    def log(self) -> str:
        path = self.out / "log.txt"
        return path.read_text() if path.exists() else ""

    def outcomes(self) -> dict[str, dict[str, Any]]:
        path = self.out / "outcomes.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines if line.endswith("}")]
        assert len({line["id"] for line in found}) == len(found), "a chain was recorded twice"
        return {line["id"]: line for line in found}

    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads((self.out / "summary.json").read_text())
        return summary

    def processes(self) -> list[psutil.Process]:
        """Every process that a run in this home has started, whoever its parent is by now."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("RAYOPT_MARK") == str(self.folder):
                    found.append(process)
            except psutil.Error:
                continue
        return found


def tasks(log: str, word: str) -> list[str]:
    """The ids of tasks of which the log says so."""
    return re.findall(rf" DEBUG {word} (\S+): ", log)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two summaries found the same models, as good as each other; latencies are measured anew."""

    def told(summary: dict[str, Any]) -> list[Any]:
        rows = [summary["baseline"], *summary["candidates"]]
        keys = ("id", "steps", "sha256", "size_bytes", "selection_accuracy", "twin_of")
        return [summary["failed"], sorted(([row[key] for key in keys] for row in rows), key=str)]

    return told(one) == told(other)


def left_after(home: Home) -> list[str]:
    """The processes that are still there a while after the driver is gone."""
    _, alive = psutil.wait_procs(home.processes(), timeout=GONE_S)
    alive = [one for one in [*alive, *home.processes()] if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    return [one.name() for one in alive]


def kill_and_go_on(home: Home, after_count: int, more_s: float, whole: dict[str, Any]) -> dict[str, Any]:
    """One run that is killed so long after it has ended so many tasks, and the same command again."""
    start = time.perf_counter()
    driver = home.start()
    while driver.poll() is None and len(tasks(home.log(), "(?:done|cached)")) < after_count:
        time.sleep(0.05)
    time.sleep(more_s)
    ended_before = driver.poll() is not None
    driver.kill()
    driver.wait()
    after_s = time.perf_counter() - start
    left = left_after(home)
    before = home.log()
    finished, recorded = tasks(before, "done"), home.outcomes()
    start = time.perf_counter()
    code = home.start().wait(timeout=300)
    seconds = time.perf_counter() - start
    after = home.log()[len(before) :]
    computed, cached = tasks(after, "done"), tasks(after, "cached")
    outcomes = home.outcomes()
    return {
        "killed_after_s": after_s,
        "had_ended": ended_before,
        "finished": len(finished),
        "chains_recorded": len(recorded),
        "again_cached": len(cached),
        "again_computed": len(computed),
        "computed_twice": sorted(set(finished) & set(computed)),
        "lost": sorted(set(finished) - set(cached)) + [id for id, line in recorded.items() if outcomes.get(id) != line],
        "same": code == 0 and same(home.summary(), whole) and set(outcomes) == {*_ids(whole)},
        "again_s": seconds,
        "left": left + left_after(home),
    }


def _ids(summary: dict[str, Any]) -> list[str]:
    return [row["id"] for row in (summary["baseline"], *summary["candidates"], *summary["failed"])]


def overhead(log: str, wall_s: float) -> dict[str, float]:
    """The share of the wall time in which no method, evaluation or timing was at work on any machine."""
    found = re.findall(r" DEBUG worked from ([0-9.]+) to ([0-9.]+): ", log)
    covered = end = 0.0
    for began, ended in sorted((float(began), float(ended)) for began, ended in found):
        covered += max(0.0, ended - max(began, end))
        end = max(end, ended)
    ready = re.search(r"is ready after ([0-9.]+) s", log)
    start_s = float(ready[1]) if ready else 0.0
    return {"wall_s": wall_s, "work_s": covered, "ray_start_s": start_s, "overhead_share": 1 - covered / wall_s}


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else KILLS
    chance = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else SEED)
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "whole")
        home.folder.mkdir()
        start = time.perf_counter()
        if home.start().wait(timeout=300):
            raise SystemExit("the undisturbed run failed:\n" + home.log())
        wall_s = time.perf_counter() - start
        log = home.log()
        whole, spent = home.summary(), overhead(log, wall_s)
        print(
            f"undisturbed: {wall_s:.1f} s, {len(tasks(log, 'done'))} tasks, {len(_ids(whole))} chains; "
            f"work {spent['work_s']:.1f} s, starting Ray {spent['ray_start_s']:.1f} s, "
            f"all but work {spent['overhead_share']:.1%}"
        )
        rows = []
        for number in range(kills):
            home = Home(Path(folder) / f"kill{number}")
            home.folder.mkdir()
            # One moment in each part of the run, whatever the machine does meanwhile: by the tasks that have ended.
            count = len(tasks(log, "(?:done|cached)"))
            row = kill_and_go_on(home, int(count * (number + chance.random()) / kills), chance.uniform(0, 2), whole)
            rows.append(row)
            print(
                f"killed after {row['killed_after_s']:5.1f} s: {row['finished']:2} tasks finished, "
                f"{row['chains_recorded']:2} chains recorded; again: {row['again_cached']:2} from the cache, "
                f"{row['again_computed']:2} computed, "
                f"{len(row['computed_twice'])} twice, {len(row['lost'])} lost, "
                f"end {'the same' if row['same'] else 'DIFFERENT'}, {len(row['left'])} processes left, "
                f"{row['again_s']:.1f} s",
                flush=True,
            )
    print(json.dumps({"load": os.getloadavg()[0], "undisturbed": spent, "kills": rows}))
    if any(row["computed_twice"] or row["lost"] or row["left"] or not row["same"] for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
