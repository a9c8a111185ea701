"""The graph optimiser beside single tools: a row for each real model of the development corpus."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Json = dict[str, Any]
SINGLE = ("onnxslim", "ort_basic", "onnxscript", "onnxoptimizer", "onnxsim")
SINGLE_BYTES = 16 << 20  # of larger models the best single tool alone is tried beside ours
SESSIONS = 7


def models(only: str = "") -> Json:
    """A row for each real model: nodes by the best single tool and by us, bytes, latency, session creation, chain."""
    from rayopt.graph.tools import installed
    from tests.benchmarks.graph_corpus import corpus

    tools = [name for name in SINGLE if name in installed()]
    rows: list[Json] = []
    print(
        f"{'model':34} {'nodes':>6} {'tool':>5} {'ours':>5} {'bytes':>6} {'latency':>8} {'session':>8} {'s':>6}  chain"
    )
    for model in corpus():
        if model.real and only in f"{model.group}/{model.name}":
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
    wins = sum(row["ours"] <= row["tool"] for row in ended)
    print(f"no more nodes than the best single tool: {wins} of {len(ended)} models")
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
    for tool in tools if model.path.stat().st_size <= SINGLE_BYTES else tools[:1]:
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
    from rayopt.measure.latency import interleave

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
    found = interleave(calls, "False", 1, _rounds(calls["False"]))["True"]
    session = min(seconds[True]) / min(seconds[False])
    return {"latency": found.ratio, "latency_high": found.ratio_high, "session": session}


def _rounds(call: Callable[[], object]) -> Any:
    """How often a model is timed: slow ones less often."""
    from rayopt.measure.latency import Rounds

    start = time.perf_counter()
    call()
    slow = time.perf_counter() - start > 0.1
    return Rounds(least=5, most=7, seconds=0) if slow else Rounds(least=15, most=101, seconds=0.5)


def _print(row: Json) -> None:
    chain = " > ".join(row["chain"]) or f"{row['verdict']}: {row['reason'][:60]}"
    print(
        f"{row['model']:34} {row['nodes']:6} {row['tool']:5} {row['ours']:5} {row['bytes']:6.3f} {row['latency']:8.3f} "
        f"{row['session']:8.3f} {row['seconds']:6.1f}  {chain}",
        flush=True,
    )


def _mean(ratios: Iterable[float]) -> float:
    values = list(ratios)
    return math.exp(statistics.fmean(map(math.log, values))) if values else 1.0
