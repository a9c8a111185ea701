"""The graph optimiser beside single tools on the development corpus; hostile files, a large model, many small ones.

`python tests/benchmarks/graph.py [models] [nodes] [hostile] [large] [batch]`; figures go to build/bench-graph.json too.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
OUT = ROOT / "build" / "bench-graph.json"
SINGLE = ("onnxslim", "ort_basic", "onnxscript", "onnxoptimizer", "onnxsim")
SESSIONS = 7
Json = dict[str, Any]


def models(only: str = "") -> Json:
    """A row for each real model: nodes by the best single tool and by us, bytes, latency, session creation, chain."""
    from rayopt.graph.tools import installed
    from tests.benchmarks.graph_corpus import corpus

    tools = [name for name in SINGLE if name in installed()]
    rows = []
    print(
        f"{'model':34} {'nodes':>6} {'tool':>5} {'ours':>5} {'bytes':>6} {'latency':>8} {'session':>8} {'s':>6}  chain"
    )
    for model in corpus():
        if model.real and only in model.name:
            rows.append(_row(model, tools))
            _print(rows[-1])
    ended = [row for row in rows if row["nodes"]]
    means = {
        "nodes": _mean(row["ours"] / row["nodes"] for row in ended),
        "tool": _mean(row["tool"] / row["nodes"] for row in ended),
        "latency": _mean(row["latency"] for row in ended),
        "session": _mean(row["session"] for row in ended),
        "bytes_most": max((row["bytes"] for row in ended), default=1),
        "latency_most": max((row["latency"] for row in ended), default=1),
    }
    print("geometric means: " + ", ".join(f"{name} {value:.3f}" for name, value in means.items()))
    caught = [line for row in rows for line in row["caught"]]
    print(f"\ntools were caught {len(caught)} times:")
    for line in caught:
        print(f"  {line['model']:34} {' > '.join(line['chain']):44} {line['what']}: {line['reason'][:100]}")
    return {"rows": rows, "means": means}


def _row(model: Any, tools: Sequence[str]) -> Json:
    from rayopt.graph.order import Order
    from rayopt.graph.run_model import ALL_TOOLS, optimize_file

    start = time.perf_counter()
    found = optimize_file(model.path, Order("", "", ALL_TOOLS))
    seconds = time.perf_counter() - start
    told = found.told
    nodes = told.get("nodes_before", 0)
    single = {}
    caught = [{"model": model.name, **line} for line in told.get("record", ()) if line["what"] != "left"]
    for tool in tools:
        alone = optimize_file(model.path, Order("", "", (tool,), timing_s=0))
        single[tool] = alone.told.get("nodes_after", nodes)
        known = {(line["reason"], line["tool"]) for line in caught}
        lines = alone.told.get("record", ())
        caught += [
            {"model": model.name, **line}
            for line in lines
            if line["what"] != "left" and (line["reason"], line["tool"]) not in known
        ]
    row = {
        "group": model.group, "model": model.name, "verdict": found.verdict, "reason": found.reason, "nodes": nodes,
        "single": single, "tool": min(single.values(), default=nodes), "ours": told.get("nodes_after", nodes),
        "chain": told.get("chain", []), "seconds": seconds, "peak_bytes": found.peak_bytes, "caught": caught,
        "bytes": told.get("size_after", 1) / max(1, told.get("size_before", 1)), "latency": 1.0, "session": 1.0,
    }  # fmt: skip
    if found.files:
        probe = told["latency"].get("probe") or told["proof"]["probes"][0]
        row |= _timed(model.path.read_bytes(), found.files["model.onnx"], told["proof"], probe)
    return row


def _timed(before: bytes, after: bytes, proof: Mapping[str, Any], probe: Mapping[str, Any]) -> Json:
    """Latency under the runtime's own full level and session creation, interleaved: ratios of ours to the original."""
    from rayopt.graph.inputs import Input, Probe, feed
    from rayopt.graph.sessions import open_session
    from rayopt.measure.latency import Rounds, interleave

    seconds: dict[bool, list[float]] = {False: [], True: []}
    sessions: dict[bool, Any] = {}
    for index in range(SESSIONS):
        for ours in (False, True) if index % 2 else (True, False):
            start = time.perf_counter()
            sessions[ours] = open_session(after if ours else before, optimize=True)
            seconds[ours].append(time.perf_counter() - start)
    inputs = [Input(**{**one, "shape": tuple(one["shape"]), "pool": tuple(one["pool"])}) for one in proof["inputs"]]
    fed = feed(inputs, Probe(**probe))
    calls: dict[str, Callable[[], object]] = {
        str(ours): lambda running=running: running.run(None, fed) for ours, running in sessions.items()
    }
    found = interleave(calls, "False", 1, Rounds(least=15, most=101, seconds=0.5))["True"]
    session = statistics.median(seconds[True]) / statistics.median(seconds[False])
    return {"latency": found.ratio, "latency_high": found.ratio_high, "session": session}


def _print(row: Json) -> None:
    chain = " > ".join(row["chain"]) or f"{row['verdict']}: {row['reason'][:60]}"
    print(
        f"{row['model']:34} {row['nodes']:6} {row['tool']:5} {row['ours']:5} {row['bytes']:6.3f} {row['latency']:8.3f} "
        f"{row['session']:8.3f} {row['seconds']:6.1f}  {chain}",
        flush=True,
    )


def nodes() -> Json:
    """onnx's own small models against the outputs that come with them: how many are wrong after we were at them."""
    from rayopt.graph.run_model import optimize_file
    from tests.benchmarks.graph_corpus import corpus

    counts: dict[str, int] = {}
    wrong = []
    for model in corpus():
        if not model.data or os.environ.get("RAYOPT_BENCH_GROUP", "") not in model.group:
            continue
        found = optimize_file(model.path)
        counts[found.verdict] = counts.get(found.verdict, 0) + 1
        if found.files and not _right(found.files["model.onnx"], model.data):
            wrong.append(model.name)
    print(f"small models by verdict: {counts}; wrong results: {len(wrong)} {wrong}")
    return {"verdicts": counts, "wrong": wrong}


def _right(content: bytes, data: Iterable[tuple[list[Path], list[Path]]]) -> bool:
    import onnx

    from rayopt.graph.sessions import open_session

    running = open_session(content)
    names = [one.name for one in running.get_inputs()]
    for given, wanted in data:
        arrays = [onnx.numpy_helper.to_array(onnx.TensorProto.FromString(one.read_bytes())) for one in given]
        found = running.run(None, dict(zip(names, arrays, strict=False)))
        for one, path in zip(found, wanted, strict=True):
            right = onnx.numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))
            if not np.allclose(one, right, 1e-3, 1e-5, equal_nan=True):
                return False
    return True


def hostile() -> Json:
    """Every hostile file with its verdict, seconds, and peak memory."""
    from rayopt.graph.run_model import optimize_file
    from tests.graph.hostile import write_all

    rows = []
    print(f"{'file':42} {'verdict':20} {'s':>6} {'CPU s':>6} {'MiB':>5}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (path, verdict) in write_all(Path(folder)).items():
            if not rows:
                optimize_file(path)  # the first one starts the process that all others are forked from
            start = time.perf_counter()
            found = optimize_file(path)
            seconds = time.perf_counter() - start
            rows.append({"file": name, "verdict": found.verdict, "wanted": verdict, "seconds": seconds,
                         "cpu_s": found.cpu_s, "peak_bytes": found.peak_bytes,
                         "nodes": found.told.get("nodes_after")})  # fmt: skip
            mark = "" if found.verdict == verdict else f"  instead of {verdict}"
            used = f"{seconds:6.2f} {found.cpu_s:6.2f} {found.peak_bytes >> 20:5}"
            print(f"{name:42} {found.verdict:20} {used}{mark}", flush=True)
    worst = [max(row[name] for row in rows) for name in ("seconds", "cpu_s", "peak_bytes")]
    off = sum(row["verdict"] != row["wanted"] for row in rows)
    most = f"{worst[0]:.2f} s, {worst[1]:.2f} CPU s, {worst[2] >> 20} MiB"
    print(f"{len(rows)} files, {off} with another verdict; at most {most}")
    return {"rows": rows, "other_verdicts": off}


def large() -> Json:
    """A model of 2.15 GiB in external data: nodes, seconds beyond copying, and memory."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("RAYOPT_BENCH_TMP")) as folder:
        path = write_large(Path(folder))
        from rayopt.graph.run_model import optimize_file
        from rayopt.runs.files import copy_file

        optimize_file(path.parent / "nothing.onnx")  # starts what children are forked from
        start = time.perf_counter()
        found = optimize_file(path)
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        copy_file(path.parent / "large.data", path.parent / "copy.data")
        copying = time.perf_counter() - start
    row = {"nodes": found.told.get("nodes_before"), "ours": found.told.get("nodes_after"), "verdict": found.verdict,
           "seconds": seconds, "copying_s": copying, "peak_bytes": found.peak_bytes}  # fmt: skip
    print(f"large model: {row['nodes']} -> {row['ours']} nodes in {seconds:.2f} s beyond copying ({copying:.1f} s), "
          f"{found.peak_bytes >> 20} MiB")  # fmt: skip
    return row


def write_large(folder: Path, size: int = 4000, blocks: int = 36) -> Path:
    """36 x {Identity, Transpose, Transpose, MatMul, Add, Dropout, Relu} after an Identity, weights in external data."""
    from onnx import TensorProto, helper

    made, weights, last, offset = [helper.make_node("Identity", ["x"], ["r"])], [], "r", 0
    generator = np.random.default_rng(0)
    with (folder / "large.data").open("wb") as file:
        for block in range(blocks):
            names = [f"{letter}{block}" for letter in "abcdef"] + ["y" if block == blocks - 1 else f"g{block}"]
            a, b, c, d, e, f, g = names
            made += [
                helper.make_node("Identity", [last], [a]),
                helper.make_node("Transpose", [a], [b], perm=[1, 0]),
                helper.make_node("Transpose", [b], [c], perm=[1, 0]),
                helper.make_node("MatMul", [c, f"w{block}"], [d]),
                helper.make_node("Add", [d, f"v{block}"], [e]),
                helper.make_node("Dropout", [e], [f]),
                helper.make_node("Relu", [f], [g]),
            ]
            last = g
            for name, shape in ((f"w{block}", (size, size)), (f"v{block}", (size,))):
                content = generator.standard_normal(shape, dtype=np.float32).tobytes()
                tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
                tensor.data_location = TensorProto.EXTERNAL
                for key, told in (("location", "large.data"), ("offset", offset), ("length", len(content))):
                    tensor.external_data.add(key=key, value=str(told))
                file.write(content)
                offset += len(content)
                weights.append(tensor)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name in "xy"]
    graph = helper.make_graph(made, "large", values[:1], values[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "large.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def batch(count: int = int(os.environ.get("RAYOPT_BENCH_COUNT", "500"))) -> Json:
    """Many small models on Ray with one and two CPUs, beside a plain loop over the same portfolio in one process."""
    found: Json = {}
    with tempfile.TemporaryDirectory() as folder:
        write_small(Path(folder) / "models", count)
        for name in ("loop", "1", "2"):
            command = [sys.executable, __file__, "_batch", name, folder]
            start = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
            found[name] = {"seconds": time.perf_counter() - start, **json.loads(done.stdout.splitlines()[-1])}
            print(f"batch of {count}, {name}: {found[name]}", flush=True)
    found["speedup"] = found["1"]["work_s"] / found["2"]["work_s"]
    print(f"2 CPUs are {found['speedup']:.2f}x as fast as 1")
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
    else:
        import ray

        from rayopt import api

        os.environ["RAYOPT_CACHE"] = f"{folder}/cache-{how}"
        ray.init("local", num_cpus=int(how), include_dashboard=False, log_to_driver=False, logging_level=40)
        job = {"kind": "graph", "name": "batch", "models": f"{folder}/models", "timing_s": 0.02}
        start = time.perf_counter()
        summary = api.run(job, f"{folder}/out-{how}")
        work_s, verdicts = time.perf_counter() - start, summary["verdicts"]
    print(json.dumps({"work_s": work_s, "verdicts": verdicts}))


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


def _mean(ratios: Iterable[float]) -> float:
    values = list(ratios)
    return math.exp(statistics.fmean(map(math.log, values))) if values else 1.0


PARTS: dict[str, Callable[[], Json]] = {
    "models": models, "nodes": nodes, "hostile": hostile, "large": large, "batch": batch,
}  # fmt: skip


def main() -> None:
    wanted = sys.argv[1:] or list(PARTS)
    if wanted[0] == "_batch":
        _batch(*wanted[1:])
        return
    found: Json = json.loads(OUT.read_text()) if OUT.is_file() else {}
    for name in wanted:
        print(f"\n{name}  (load {os.getloadavg()[0]:.1f})")
        found[name] = PARTS[name]()
        OUT.parent.mkdir(exist_ok=True)
        OUT.write_text(json.dumps(found, indent=1))
    print(f"\nwritten to {OUT}")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
    from rayopt.graph import child

    child.close()
