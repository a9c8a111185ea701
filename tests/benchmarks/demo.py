"""The demo's own times: a first run with an empty cache, and a second one that finds everything done.

`make bench` prints a table and a line of JSON; nothing here decides a test.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 3
ROOT = Path(__file__).parent.parent.parent
PROGRAM = str(Path(sys.executable).parent / "rayopt")


def run(folder: Path) -> tuple[float, str]:
    """Seconds and log of one run with its cache in `folder`."""
    command = [PROGRAM, "run", str(ROOT / "jobs" / "quickstart.yaml"), "--out", str(folder / "out")]
    start = time.perf_counter()
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "RAYOPT_CACHE": str(folder / "cache")}
    )
    return time.perf_counter() - start, done.stderr


def main() -> None:
    first, again, ray = [], [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            seconds, log = run(Path(folder))
            first.append(seconds)
            ray += [float(found) for found in re.findall(r"Ray is ready \(([0-9.]+) s\)", log)]
            again.append(run(Path(folder))[0])
    rows = {"first run": first, "of that, starting Ray": ray, "second run": again}
    for name, values in rows.items():
        print(
            f"{name:24} {statistics.median(values):6.1f} s  ({min(values):.1f} to {max(values):.1f}, n={len(values)})"
        )
    print(json.dumps({"n": ROUNDS, "load": os.getloadavg()[0], "demo": rows}))


if __name__ == "__main__":
    main()
