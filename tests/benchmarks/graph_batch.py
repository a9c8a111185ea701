"""Many small models on Ray with one and two CPUs, beside a plain loop over the same portfolio in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
Json = dict[str, Any]


def batch(count: int) -> Json:
    """Seconds of each way to do it, without Ray's own start, those of CPU on the models, and how often each verdict."""
    found: Json = {}
    with tempfile.TemporaryDirectory() as folder:
        write_small(Path(folder) / "models", count)
        for name in ("loop", "1", "2"):
            command = [sys.executable, __file__, name, folder]
            start = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
            found[name] = {"seconds": time.perf_counter() - start, **json.loads(done.stdout.splitlines()[-1])}
            print(f"batch of {count}, {name}: {found[name]}", flush=True)
    found["speedup"] = found["1"]["work_s"] / found["2"]["work_s"]
    found["to_loop"] = found["loop"]["work_s"] / found["2"]["work_s"]
    print(f"2 CPUs are {found['speedup']:.2f}x as fast as 1, and {found['to_loop']:.2f}x as fast as a plain loop")
    return found


def write_small(folder: Path, count: int) -> None:
    """Perceptrons and convolutions of a few nodes, each with something to remove."""
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True)
    for index in range(count):
        generator = np.random.default_rng(index)
        width = int(generator.integers(4, 33))
        made, weights, last = [], [], "x"
        for layer in range(int(generator.integers(2, 6))):
            w = generator.normal(size=(width, width)).astype(np.float32)
            weights.append(numpy_helper.from_array(w, f"w{layer}"))
            weights.append(numpy_helper.from_array(w[0].copy(), f"b{layer}"))
            made += [
                helper.make_node("Identity", [last], [f"i{layer}"]),
                helper.make_node("MatMul", [f"i{layer}", f"w{layer}"], [f"m{layer}"]),
                helper.make_node("Add", [f"m{layer}", f"b{layer}"], [f"a{layer}"]),
                helper.make_node("Relu", [f"a{layer}"], [f"r{layer}"]),
            ]
            last = f"r{layer}"
        made.append(helper.make_node("Identity", [last], ["y"]))
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name in "xy"]
        graph = helper.make_graph(made, "small", values[:1], values[1:], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        (folder / f"m{index:04}.onnx").write_bytes(model.SerializeToString())


def _batch(how: str, folder: str) -> None:
    """One way to do the batch, in a process of its own; the last line of stdout tells its seconds."""
    paths = sorted((Path(folder) / "models").glob("*.onnx"))
    if how == "loop":
        work_s, verdicts = _plain_loop(paths)
        cpu_s = time.process_time()
    else:
        import ray

        from rayopt import api

        os.environ["RAYOPT_CACHE"] = f"{folder}/cache-{how}"
        ray.init("local", num_cpus=int(how), include_dashboard=False, log_to_driver=False, logging_level=40)
        job = {"kind": "graph", "name": "batch", "models": f"{folder}/models", "timing_s": 0.02}
        start = time.perf_counter()
        summary = api.run(job, f"{folder}/out-{how}")
        work_s, verdicts = time.perf_counter() - start, summary["verdicts"]
        cpu_s = sum(row["cpu_s"] for row in summary["models"])
    print(json.dumps({"work_s": work_s, "cpu_s": cpu_s, "verdicts": verdicts}))


def _plain_loop(paths: Sequence[Path]) -> tuple[float, Json]:
    """The same portfolio, in this process, one model after another: no children, no limits."""
    from dataclasses import asdict

    import rayopt.graph.steps
    from rayopt.graph.order import Order
    from rayopt.graph.run_model import ALL_TOOLS
    from rayopt.graph.working import optimize

    rayopt.graph.steps.limit_cpu = lambda seconds: None
    sys.modules["torch"] = None  # type: ignore[assignment] # as in the children: tools that find it import it
    start = time.perf_counter()
    verdicts: dict[str, int] = {}
    for path in paths:
        with tempfile.TemporaryDirectory() as work:
            order = asdict(Order(str(path), work, ALL_TOOLS, timing_s=0.02))
            found = optimize({"order": order, "known": {}}, lambda line: None)
            verdicts[found["verdict"]] = verdicts.get(found["verdict"], 0) + 1
    return time.perf_counter() - start, verdicts


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    _batch(*sys.argv[1:])
