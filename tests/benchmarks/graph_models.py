"""The graph optimiser beside single tools: a row for each real model of the development corpus."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]
COUNT = 38  # real models of the development corpus: the means are over all of them, whatever became of each
SESSIONS = 7
BAD = ("crashed", "out_of_time", "out_of_memory", "killed_worker")


def models(only: str = "") -> Json:
    """A row for each real model: nodes by other tools and by us, bytes, latency, session creation, chain."""
    from tests.benchmarks.graph_corpus import cache, corpus

    rows: list[Json] = []
    print(f"{'model':34} {'nodes':>6} {'tool':>5} {'chain':>5} {'bar':>4} {'ours':>5} {'bytes':>6} {'latency':>8} "
          f"{'session':>8} {'s':>6}  chain")  # fmt: skip
    for model in corpus():
        if model.real and only in f"{model.group}/{model.name}":
            rows.append(_row(model, cache()))
            _print(rows[-1])
    return {"rows": rows, "means": means(rows), "whole": not only}


def means(rows: Sequence[Json]) -> Json:
    """Geometric means over all rows: what failed counts as unchanged."""
    found = {
        "nodes": _mean(row["ours"] / row["nodes"] for row in rows),
        "tool": _mean(row["tool"] / row["nodes"] for row in rows),
        "chain": _mean(row["best"] / row["nodes"] for row in rows),
        "latency": _mean(row["latency"] for row in rows),
        "session": _mean(row["session"] for row in rows),
        "bytes_most": max((row["bytes"] for row in rows), default=1),
        "latency_most": max((row["latency"] for row in rows), default=1),
    }
    print("geometric means: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()))
    print_caught(rows)
    return found


def print_caught(rows: Sequence[Json]) -> None:
    """The cases in which a tool was caught: which one, on which model, at what."""
    caught = [(line["tool"], row["model"], line) for row in rows for line in row["caught"]]
    print(f"\ntools were caught {len(caught)} times:\n{'tool':14} {'model':34} {'what':7} after")
    for tool, model, line in sorted(caught, key=lambda one: one[:2]):
        name, before = tool.rpartition(":")[2], " > ".join(line["chain"][:-1]) or "-"
        print(f"{name:14} {model:34} {line['what']:7} {before}: {line['reason'][:90]}")


def _row(model: Any, folder: Path) -> Json:
    import onnx

    from rayopt.graph.order import Order
    from rayopt.graph.portfolio import nodes_count
    from rayopt.graph.run_model import ALL_TOOLS, optimize_file
    from tests.benchmarks.graph_bars import NAMED, bar

    start = time.perf_counter()
    found = optimize_file(model.path, Order("", "", ALL_TOOLS))
    seconds = time.perf_counter() - start
    told, others = found.told, bar(model.path, folder)
    nodes = nodes_count(onnx.load(str(model.path), load_external_data=False))
    own_lines = [line for line in told.get("record", ()) if line["what"] != "left"]
    known = {(line["tool"], line["reason"]) for line in own_lines}
    row = {
        "group": model.group, "model": model.name, "verdict": found.verdict, "reason": found.reason, "nodes": nodes,
        "single": others["single"], "ways": others["ways"], "tool": _or(others["tool"], nodes),
        "best": _or(others["chain"], nodes), "bar": NAMED.get(f"{model.group}/{model.name}"),
        "ours": told.get("nodes_after", nodes), "chain": told.get("chain", []), "seconds": seconds,
        "peak_bytes": found.peak_bytes, "bytes": told.get("size_after", 1) / max(1, told.get("size_before", 1)),
        "caught": own_lines + [one for one in others["caught"] if (one["tool"], one["reason"]) not in known],
        "latency": 1.0, "session": 1.0,
    }  # fmt: skip
    if found.files and told["latency"]:
        probe = told["latency"].get("probe") or told["proof"]["probes"][0]
        row |= _timed(model.path.read_bytes(), found.files["model.onnx"], told["proof"], probe)
    return row


def _or(found: int | None, nodes: int) -> int:
    return nodes if found is None else min(found, nodes)


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
    nodes = f"{row['nodes']:6} {row['tool']:5} {row['best']:5} {row['bar'] or '':>4} {row['ours']:5}"
    print(
        f"{row['model']:34} {nodes} {row['bytes']:6.3f} {row['latency']:8.3f} "
        f"{row['session']:8.3f} {row['seconds']:6.1f}  {chain}",
        flush=True,
    )


def _mean(ratios: Iterable[float]) -> float:
    values = list(ratios)
    return math.exp(statistics.fmean(map(math.log, values))) if values else 1.0
