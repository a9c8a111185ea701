"""The graph optimiser beside single tools on the development corpus; hostile files, a chain, a large model, a batch.

`python tests/benchmarks/graph.py [models] [nodes] [hostile] [chain] [large] [batch]`; figures go to
build/bench-graph.json too, each with what is wanted and whether it is reached; where one is not, the exit code is 1.
What other tools reach on the models is kept beside the corpus: the first time takes longer.
RAYOPT_BENCH_ONLY: a part of the names of models; RAYOPT_BENCH_COUNT: models of the batch.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
OUT = ROOT / "build" / "bench-graph.json"
CHAINS = 3
Json = dict[str, Any]


def models() -> Json:
    from tests.benchmarks import graph_models

    return graph_models.models(os.environ.get("RAYOPT_BENCH_ONLY", ""))


def batch() -> Json:
    from tests.benchmarks import graph_batch

    return graph_batch.batch(int(os.environ.get("RAYOPT_BENCH_COUNT", "500")))


def chain() -> Json:
    """A chain of 20,000 nodes, CHAINS times: nodes, seconds from file to verdict, and memory."""
    from rayopt.graph.run_model import optimize_file
    from tests.graph.hostile import CASES

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = CASES["chain_of_20000"].write(Path(folder))
        optimize_file(Path(folder) / "nothing.onnx")  # starts what children are forked from
        for _ in range(CHAINS):
            start = time.perf_counter()
            found = optimize_file(path)
            rows.append({"seconds": time.perf_counter() - start, "cpu_s": found.cpu_s, "peak_bytes": found.peak_bytes,
                         "nodes": found.told.get("nodes_before"), "ours": found.told.get("nodes_after")})  # fmt: skip
            print(f"chain: {rows[-1]['nodes']} -> {rows[-1]['ours']} nodes in {rows[-1]['seconds']:.2f} s, "
                  f"{found.cpu_s:.2f} CPU s, {found.peak_bytes >> 20} MiB", flush=True)  # fmt: skip
    return {"rows": rows}


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


PARTS: dict[str, Callable[[], Json]] = {
    "models": models, "nodes": nodes, "hostile": hostile, "chain": chain, "large": large, "batch": batch,
}  # fmt: skip


def main() -> None:
    wanted = sys.argv[1:] or list(PARTS)
    unknown = sorted(set(wanted) - set(PARTS))
    if unknown:
        raise SystemExit(f"there is no {', '.join(unknown)}; known: {', '.join(PARTS)}")
    from tests.benchmarks import graph_figures

    found: Json = json.loads(OUT.read_text()) if OUT.is_file() else {}
    for name in wanted:
        load, start = os.getloadavg()[0], time.perf_counter()
        print(f"\n{name}  (load {load:.1f})", flush=True)
        found[name] = {**PARTS[name](), "load": load, "took_s": time.perf_counter() - start}
        OUT.parent.mkdir(exist_ok=True)
        OUT.write_text(json.dumps(found, indent=1))
    told = graph_figures.show({name: found[name] for name in wanted})
    OUT.write_text(json.dumps({**found, **told}, indent=1))
    print(f"\nwritten to {OUT}")
    if not told["ok"]:
        raise SystemExit(1)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from rayopt.graph import child

    try:
        main()
    finally:
        child.close()
