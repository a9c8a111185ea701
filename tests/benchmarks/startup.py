"""How long the program takes to start, as ratios to a bare click program, interleaved in one run.

`make bench` prints a table and a line of JSON; nothing here decides a test.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 15
ROOT = Path(__file__).parent.parent.parent
PROGRAM = str(Path(sys.executable).parent / "rayopt")
COMMANDS = {
    "click": [sys.executable, "-c", "import click"],
    "click + pydantic + yaml": [sys.executable, "-c", "import click, yaml; from pydantic import BaseModel"],
    "rayopt --help": [PROGRAM, "--help"],
    "rayopt validate": [PROGRAM, "validate", str(ROOT / "jobs" / "quickstart.yaml")],
    "rayopt cluster validate": [PROGRAM, "cluster", "validate", "CLUSTER"],
}
BASES = {
    "rayopt --help": "click",
    "rayopt validate": "click + pydantic + yaml",
    "rayopt cluster validate": "click",
}


def cluster_file(folder: Path) -> Path:
    """cluster/onprem.yaml with a key that is there."""
    text = (ROOT / "cluster" / "onprem.yaml").read_text()
    (folder / "key").touch(0o600)
    (folder / "onprem.yaml").write_text(text.replace("~/.ssh/id_ed25519", str(folder / "key")))
    return folder / "onprem.yaml"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        COMMANDS["rayopt cluster validate"][-1] = str(cluster_file(Path(folder)))
        measure()


def measure() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for index in range(ROUNDS + 1):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            if index:  # the first round fills the caches
                seconds[name].append(time.perf_counter() - start)
    rows = []
    for name, base in BASES.items():
        ratios = sorted(one / other for one, other in zip(seconds[name], seconds[base], strict=True))
        rows.append(
            {"command": name, "to": base, "ratio": statistics.median(ratios), "low": ratios[1], "high": ratios[-2]}
        )
    for name, values in seconds.items():
        print(f"{name:24} {1000 * statistics.median(values):6.0f} ms")
    for row in rows:
        print(f"{row['command']:24} {row['ratio']:.2f} x {row['to']} ({row['low']:.2f} to {row['high']:.2f})")
    print(json.dumps({"n": ROUNDS, "load": os.getloadavg()[0], "startup": rows}))


if __name__ == "__main__":
    main()
