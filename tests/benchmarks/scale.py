"""The engine at scale: many candidates in one driver, and many nodes of a simulated cluster.

    scale.py candidates     1,000 and 10,000 candidates planned, run and recorded, in process and on Ray
    scale.py nodes [N ...]  steps that sleep on 2, 4, 8 and 16 simulated nodes, and a node killed in the middle

Prints a table and a line of JSON; nothing here decides a test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from rayopt.backend import InProcess
from rayopt.engine import Ended, Engine, Of, Task
from rayopt.plan import Node
from rayopt.records import Artifact, Latency, Scores, digest
from rayopt.runs import journal
from rayopt.runs.cache import Cache
from rayopt.tasks import Codec
from rayopt.watch import Silent
from rayopt.work import Made, Timed

MODEL_BYTES = 20_000
STEP_S = 2.0
STEPS_PER_NODE = 12
SMALL = {"object_store_memory": 80 << 20}


# Many candidates


def make(number: int) -> Made:
    return Made(
        Artifact("onnx", {"model.onnx": number.to_bytes(8, "big") * (MODEL_BYTES // 8)}, {"number": number}), 0.0
    )


def evaluate(model: Made) -> Scores:
    return Scores("accuracy", len(model.artifact.files["model.onnx"]) / MODEL_BYTES, 0.9, 1.0, 100)


def time_together(ids: tuple[str, ...], *models: Made) -> dict[str, Timed]:
    return {id: Timed((Latency(1, 1.0, 1.0, 0.9, 1.1, 10),), {}) for id, _ in zip(ids, models, strict=True)}


def candidates(count: int) -> list[Task]:
    """A step, an evaluation and a timing each, keyed as the real ones are: by hashes of what goes in."""
    tasks = []
    for number in range(count):
        id = f"c{number}"
        made = lambda values, id=id: values[id].artifact.sha256  # noqa: E731
        tasks += [
            Task(Node(id), id, make, (number,), lambda values, n=number: digest(["make", n])),
            Task(Node(f"{id}:s", id), id, evaluate, (Of(id),), lambda values, f=made: digest(["score", f(values)])),
            Task(Node(f"{id}:time", id, exclusive=True), id, time_together, (),
                 lambda values, f=made: digest(["time", f(values)]), each=Of(id)),
        ]  # fmt: skip
    return tasks


def run_candidates(count: int, on_ray: bool) -> dict[str, float]:
    """Seconds and memory of one driver, in a process of its own."""
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        tasks = candidates(count)
        planned_s = time.perf_counter() - start
        engine = Engine(_opener(on_ray), Cache(Path(folder) / "cache"), Codec(), Silent())
        memory: list[int] = []

        def on_end(ended: Ended) -> None:
            if ended.id.endswith(":time"):
                journal.append(Path(folder) / "outcomes.jsonl", {"id": ended.id, "status": ended.status})
            if len(memory) < 10 and len(engine.values) >= len(tasks) * (len(memory) + 1) // 10:
                memory.append(process.memory_info().rss)

        engine._open()  # the start of Ray is another figure
        start = time.perf_counter()
        engine.run(tasks, on_end, list)
        run_s = time.perf_counter() - start
        assert len(journal.read(Path(folder) / "outcomes.jsonl")) == count
        held = sum(len(value.artifact.files) for value in engine.values.values() if isinstance(value, Made))
        assert held == count
        engine.close()
        start = time.perf_counter()
        again = Engine(lambda: InProcess(), Cache(Path(folder) / "cache"), Codec(), Silent())
        again.run(candidates(count), lambda ended: None, list)
        again_s = time.perf_counter() - start
    return {
        "count": count,
        "planned_s": planned_s,
        "run_s": run_s,
        "again_s": again_s,
        "run_ms_each": 1000 * run_s / count,
        "again_ms_each": 1000 * again_s / count,
        "rss_bytes_each": (memory[-1] - memory[0]) / (0.9 * count),
        "rss_bytes": memory[-1],
    }


def _opener(on_ray: bool) -> Callable[[], Any]:
    if not on_ray:
        return InProcess
    from rayopt.onray.backend import OnRay

    return lambda: OnRay(None, cpus=2)


def candidates_table() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for where in ("in process", "on Ray"):
        rows = [_in_a_process("candidates", str(count), where) for count in (1000, 10_000)]
        for row in rows:
            print(
                f"{where:11} {row['count']:6,} candidates: {row['run_s']:6.1f} s ({row['run_ms_each']:.2f} ms each), "
                f"from the cache {row['again_s']:5.1f} s ({row['again_ms_each']:.2f} ms each), "
                f"driver {row['rss_bytes'] / 2**20:.0f} MiB (+{row['rss_bytes_each'] / 1024:.1f} KiB each)"
            )
        ratio = rows[1]["run_ms_each"] / rows[0]["run_ms_each"]
        print(f"{where:11} time per candidate at 10,000 to that at 1,000: {ratio:.2f}")
        found[where] = {"rows": rows, "ratio": ratio}
    return found


# Many nodes


@dataclass
class Sleeps:
    """What ran where: each step writes a line when it begins."""

    path: Path
    starts: Counter[str] = field(default_factory=Counter)

    def read(self) -> Counter[str]:
        return Counter(line.split()[0] for line in self.path.read_text().splitlines())


def sleep_step(before: Any, id: str, path: str, seconds: float) -> Made:
    import ray

    with Path(path).open("a") as file:
        file.write(f"{id} {ray.get_runtime_context().get_node_id()}\n")
    time.sleep(seconds)
    return make(int(id.removeprefix("c").replace("s", "")))


def sleeping_chains(count: int, length: int, path: Path, seconds: float = STEP_S) -> list[Task]:
    tasks = []
    for number in range(count):
        before: Any = None
        for index in range(length):
            id = f"c{number}s{index}"
            args = (Of(before) if before else None, id, str(path), seconds)
            tasks.append(Task(Node(id, before), id, sleep_step, args, lambda values, id=id: digest(["sleep", id])))
            before = id
    return tasks


def run_nodes(nodes: int, kill: bool) -> dict[str, float]:
    """Efficiency of sleeping steps on `nodes` nodes of one CPU each, whose workers have started before."""
    import ray
    from ray.cluster_utils import Cluster

    from rayopt.onray.backend import OnRay

    head = {"num_cpus": 0, "include_dashboard": False, **SMALL}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        workers = [cluster.add_node(num_cpus=1, **SMALL) for _ in range(nodes)]
        ray.init(cluster.address, log_to_driver=False, configure_logging=False)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "starts"
            for attempt in range(10):  # a worker on every node
                warm = Engine(lambda: OnRay("auto"), Cache(Path(folder) / f"warm{attempt}"), Codec(), Silent())
                warm.run(sleeping_chains(2 * nodes, 1, path, 0.5), lambda ended: None, list)
                if len({line.split()[1] for line in path.read_text().splitlines()}) == nodes:
                    break
            path.unlink()
            engine = Engine(lambda: OnRay("auto"), Cache(Path(folder) / "cache"), Codec(), Silent())
            tasks = sleeping_chains(nodes * STEPS_PER_NODE // 3, 3, path)
            ended: list[Ended] = []

            def on_end(one: Ended) -> None:
                ended.append(one)
                if kill and len(ended) == len(tasks) // 2:  # in the middle of a step
                    threading.Timer(STEP_S / 2, cluster.remove_node, (workers[0], False)).start()

            start = time.perf_counter()
            engine.run(tasks, on_end, list)
            wall_s = time.perf_counter() - start
            engine.close()
            runs = Sleeps(path).read()
        assert len(ended) == len(tasks)
        ideal_s = len(tasks) * STEP_S / nodes
        return {
            "nodes": nodes,
            "killed": int(kill),
            "steps": len(tasks),
            "done": sum(one.status == "done" for one in ended),
            "started": runs.total(),
            "wall_s": wall_s,
            "ideal_s": ideal_s,
            "efficiency": ideal_s / wall_s,
        }
    finally:
        ray.shutdown()
        cluster.shutdown()


def nodes_table(counts: list[int]) -> list[dict[str, float]]:
    rows = [_in_a_process("nodes", str(count), "whole") for count in counts]
    if 4 in counts:
        rows.append(_in_a_process("nodes", "4", "kill"))
    for row in rows:
        killed = f", one killed: {row['started'] - row['steps']:.0f} steps started again" if row["killed"] else ""
        print(
            f"{row['nodes']:3} nodes: {row['done']} of {row['steps']} steps of {STEP_S:g} s in {row['wall_s']:.1f} s, "
            f"ideal {row['ideal_s']:.1f} s, efficiency {row['efficiency']:.3f}{killed}"
        )
    return rows


def _in_a_process(*words: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "one", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    match sys.argv[1:]:
        case ["one", "candidates", count, where]:
            print(json.dumps(run_candidates(int(count), where == "on Ray")))
        case ["one", "nodes", count, how]:
            print(json.dumps(run_nodes(int(count), how == "kill")))
        case ["nodes", *counts]:
            rows = nodes_table([int(count) for count in counts] or [2, 4, 8, 16])
            print(json.dumps({"load": os.getloadavg()[0], "nodes": rows}))
        case [] | ["candidates"]:
            print(json.dumps({"load": os.getloadavg()[0], "candidates": candidates_table()}))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
