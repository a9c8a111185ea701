"""`rayopt submit` by the clock and by the count, on a Ray head of its own.

python tests/benchmarks/submit.py latency [ROUNDS]        to the first line and to the end, beside `ray job submit`
python tests/benchmarks/submit.py many [IN_A_ROW AT_ONCE] none lost, none doubled; exits with 1 where that is not so
python tests/benchmarks/submit.py soak [SECONDS]          small jobs one after another: memory of head and driver
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tests.head import Head

PROGRAM = str(Path(sys.executable).with_name("rayopt"))
RAY = str(Path(sys.executable).with_name("ray"))
BEGUN = "the job has begun"
SAMPLE_S = 2.0
TRIES = 5
JOB = """
kind: optimize
name: tiny
model: {factory: rayopt.models.zoo:mlp, args: {features: 4, outputs: 2, hidden: 4}}
data: {source: code_of_job:rows}
train: {epochs: 1}
steps: [quantize_dynamic]
max_accuracy_drop: 0.5
measure: {batch_sizes: [1], timing_s: 0.01}
"""
# A job says that it has begun and leaves its name; then it is done at once, or does some work.
CODE = f"""
import os, sys
import numpy as np

def rows():
    print({BEGUN!r}, flush=True)
    name = [word.removeprefix("name=") for word in sys.argv if word.startswith("name=")][-1]
    with open("MARKS", "a") as file:
        file.write(name + "\\n")
    if name.startswith("only-"):
        os._exit(0)
    generator = np.random.default_rng(7)
    x = generator.normal(size=(120, 4)).astype(np.float32)
    return x, (x[:, 0] > x[:, 1]).astype(np.int64)
"""
# A driver that does small jobs, one after another, in one process.
DRIVER = """
import sys, time
from pathlib import Path
import rayopt
sys.argv.append("name=inside")
number, until = 0, time.monotonic() + float(sys.argv[1])
while time.monotonic() < until:
    rayopt.run("job.yaml", f"{sys.argv[2]}/inside", address="auto", assignments=[f"seed={number}"], overwrite=True)
    number += 1
print(number, "jobs in one driver", flush=True)
"""
# What of a Ray is counted together, by its command line.
PARTS = {
    "gcs": r"gcs_server",
    "raylet": r"raylet/raylet ",
    "dashboard": r"dashboard/dashboard\.py|ray-dashboard",
    "agent": r"dashboard/agent\.py|ray::DashboardAgent",
    "runtime env agent": r"runtime_env/agent/main\.py|ray::RuntimeEnvAgent",
    "log monitor": r"log_monitor\.py",
    "autoscaler": r"autoscaler/.*monitor\.py",
    "driver": r"driver\.py",
}


@dataclass(frozen=True)
class Place:
    """A head, and a folder with a job that can be sent to it."""

    head: Head
    folder: Path

    @property
    def job(self) -> Path:
        return self.folder / "job" / "job.yaml"

    @property
    def marks(self) -> list[str]:
        """The names that jobs have left behind."""
        path = self.folder / "marks"
        return path.read_text().split() if path.exists() else []

    def ours(self, name: str, *more: str) -> list[str]:
        return [PROGRAM, "submit", str(self.job), *self.head.options, "--name", name, *more]

    def rays(self, name: str) -> list[str]:
        """Ray's own command, with the driver that ours starts."""
        options = ["--address", self.head.address, "--working-dir", str(self.job.parent)]
        driver = [sys.executable, "-m", "rayopt", "run", "job.yaml", "--address", "auto", "--set", f"name={name}"]
        return [RAY, "job", "submit", *options, "--", *driver, "--out", str(self.folder / name)]

    def start(self, words: Sequence[str]) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY")}
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.head.token_file)}
        pipe = subprocess.PIPE
        return subprocess.Popen(words, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=environment)


@contextmanager
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="rs-"))  # short: Ray's sockets lie below it
    (folder / "job").mkdir()
    (folder / "job" / "job.yaml").write_text(JOB)
    (folder / "job" / "code_of_job.py").write_text(CODE.replace("MARKS", str(folder / "marks")))
    (folder / "job" / "driver.py").write_text(DRIVER)
    head = started(folder)
    try:
        yield Place(head, folder)
    finally:
        head.stop()
        shutil.rmtree(folder, ignore_errors=True)


def started(folder: Path) -> Head:
    """A head; tried again on a busy machine, since Ray gives a node 30 s to start."""
    for number in range(TRIES):
        try:
            return Head(folder / str(number), {})
        except RuntimeError as error:
            print(f"no head: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
    sys.exit("Ray does not start here")


@dataclass(frozen=True)
class Timed:
    """Seconds from the start of a command to the first line of the job's log, to its own first line, to the end."""

    log_s: float
    first_s: float
    end_s: float


def timed(here: Place, words: Sequence[str]) -> Timed:
    began = time.monotonic()
    process = here.start(words)
    assert process.stdout is not None
    seen: dict[str, float] = {}
    said = []
    for line in process.stdout:
        said.append(line)
        for mark in ("Running entrypoint", BEGUN):
            if line.startswith(mark):
                seen.setdefault(mark, time.monotonic() - began)
    assert process.wait() == 0, "".join(said)
    return Timed(seen["Running entrypoint"], seen[BEGUN], time.monotonic() - began)


def latency(here: Place, rounds: int = 11) -> bool:
    """Interleaved; the first round, in which workers start and the cache is filled, is not counted."""
    found: dict[str, list[Timed]] = {"rayopt submit": [], "ray job submit": []}
    for number in range(rounds + 1):
        turns = [("rayopt submit", here.ours(f"ours-{number}")), ("ray job submit", here.rays(f"rays-{number}"))]
        for who, words in turns if number % 2 else reversed(turns):
            found[who].append(timed(here, words))
    counted = {who: times[1:] for who, times in found.items()}
    rows = {}
    for what in ("log_s", "first_s", "end_s"):
        ours, rays = ([getattr(one, what) for one in counted[who]] for who in found)
        ratios = sorted(one / other for one, other in zip(ours, rays, strict=True))
        ratio = {"median": statistics.median(ratios), "low": ratios[0], "high": ratios[-1]}
        rows[what] = {"rayopt_s": statistics.median(ours), "ray_s": statistics.median(rays), "ratio": ratio}
    print(f"{'to':<24} {'rayopt submit':>14} {'ray job submit':>15} {'ratio':>6}   n={rounds}")
    for what, name in {"log_s": "the log's first line", "first_s": "the job's own line", "end_s": "the end"}.items():
        row: Any = rows[what]
        spread = f"{row['ratio']['median']:6.2f}   ({row['ratio']['low']:.2f} to {row['ratio']['high']:.2f})"
        print(f"{name:<24} {row['rayopt_s']:12.2f} s {row['ray_s']:13.2f} s {spread}")
    plain = {who: [asdict(one) for one in times] for who, times in counted.items()}
    print(json.dumps({"n": rounds, "load": os.getloadavg()[0], "latency": rows, "times": plain}))
    return True


def many(here: Place, in_a_row: int = 200, at_once: int = 20) -> bool:
    """Each submission is one job of the cluster, and one that has run; whether that is so."""
    began = time.monotonic()
    row = [finished(here.start(here.ours(f"only-row-{number}"))) for number in range(in_a_row)]
    between = time.monotonic()
    processes = [here.start(here.ours(f"only-once-{number}")) for number in range(at_once)]
    once = [finished(process) for process in processes]
    took = {"in a row": between - began, "at once": time.monotonic() - between}
    listed = json.loads(subprocess.check_output([PROGRAM, "jobs", "list", "--json", *here.head.options]))
    names = [f"only-row-{number}" for number in range(in_a_row)] + [f"only-once-{number}" for number in range(at_once)]
    faults = {
        "commands that failed": [told for _, code, told in row + once if code],
        "ids that the cluster does not know": {id for id, *_ in row + once} ^ {one["id"] for one in listed},
        "names that are not listed once": Counter(names) - Counter(one["name"] for one in listed),
        "names that are listed too often": Counter(one["name"] for one in listed) - Counter(names),
        "jobs that have not run": Counter(names) - Counter(here.marks),
        "jobs that have run twice": Counter(here.marks) - Counter(names),
    }
    for what, count in (("in a row", in_a_row), ("at once", at_once)):
        print(f"{count} submissions {what}: {took[what]:.1f} s, {took[what] / max(1, count):.2f} s each")
    for fault, who in faults.items():
        print(f"{fault}: {len(who)} {sorted(who)[:3] if who else ''}".rstrip())
    counts = {fault: len(who) for fault, who in faults.items()}
    print(json.dumps({"in_a_row": in_a_row, "at_once": at_once, "load": os.getloadavg()[0], **took, "faults": counts}))
    return not any(faults.values())


def finished(process: subprocess.Popen[str]) -> tuple[str, int, str]:
    """The id that a submission was given, its exit code, and what was said."""
    said, _ = process.communicate()
    found = re.search(r"^submitted (\S+) ", said, re.MULTILINE)
    return found[1] if found else "", process.returncode, said


def soak(here: Place, seconds: int = 600) -> bool:
    """Submits small jobs and runs others in one driver, while the memory of what stays is looked at."""
    subprocess.run(here.ours("warm"), check=True, capture_output=True)
    began = time.monotonic()
    words = [sys.executable, "driver.py", str(seconds), str(here.folder)]
    options = ["--address", here.head.address, "--working-dir", str(here.job.parent), "--"]
    driver = here.start([RAY, "job", "submit", *options, *words])
    samples: dict[str, list[tuple[float, float]]] = defaultdict(list)
    count, running = 0, None
    while (now := time.monotonic() - began) < seconds:
        if running is None or running.poll() is not None:
            assert running is None or running.returncode == 0, running.communicate()
            running = here.start(here.ours(f"small-{count}", "--set", f"seed={1000 + count}"))
            count += 1
        for part, size in sizes(here.head.pid).items():
            samples[part].append((now, size / (1 << 20)))
        time.sleep(SAMPLE_S)
    for process in (running, driver):
        assert process is not None
        said, _ = process.communicate()
        assert process.returncode == 0, said
    print(
        f"{count} small jobs submitted one after another, and {said.rpartition(' jobs in one')[0].split()[-1]} in one"
    )
    return told(samples, seconds)


def told(samples: dict[str, list[tuple[float, float]]], seconds: int) -> bool:
    """The memory of each part: after the first fifth, in the last, and how it grows between them."""
    print(f"{'resident MiB':<20} {'after 1/5':>10} {'last 1/5':>10} {'ratio':>6} {'MiB/min':>8}   of {seconds} s")
    rows = {}
    for part, series in samples.items():
        later = [one for one in series if one[0] > seconds / 5]
        early = [size for at, size in later if at <= 2 * seconds / 5]
        late = [size for at, size in later if at > 4 * seconds / 5]
        if len(early) < 2 or len(late) < 2:
            continue
        first, last = statistics.median(early), statistics.median(late)
        slope = 60 * statistics.linear_regression(*zip(*later, strict=True)).slope
        rows[part] = {"first_mib": first, "last_mib": last, "ratio": last / first, "mib_per_min": slope}
        print(f"{part:<20} {first:10.1f} {last:10.1f} {last / first:6.2f} {slope:8.2f}")
    print(json.dumps({"seconds": seconds, "load": os.getloadavg()[0], "soak": rows}))
    return True


def sizes(head: int) -> dict[str, float]:
    """Resident bytes of what has come of a process, by part."""
    found: dict[str, float] = defaultdict(float)
    for process in psutil.Process(head).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            words = " ".join(process.cmdline())
            part = next((part for part, pattern in PARTS.items() if re.search(pattern, words)), None)
            if part is not None:
                found[part] += process.memory_info().rss
    return dict(found)


def main(part: str, words: Sequence[str]) -> int:
    parts: dict[str, Callable[..., bool]] = {"latency": latency, "many": many, "soak": soak}
    if part not in parts:
        sys.exit(__doc__)
    with place() as here:
        return 0 if parts[part](here, *map(int, words)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:]))
