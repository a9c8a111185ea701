"""What the graph benchmark has to show, figure by figure: wanted, found, and whether that is enough."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

Json = dict[str, Any]
MIB = 1 << 20


@dataclass(frozen=True)
class Figure:
    """`timed`: it holds on a quiet machine alone."""

    name: str
    wanted: str
    found: float
    ok: bool
    timed: bool = False


def figures(found: Json) -> list[Figure]:
    """Those of every part that was run."""
    known = {"models": _models, "nodes": _nodes, "hostile": _hostile, "chain": _chain, "large": _large, "batch": _batch}
    return [figure for part, told in found.items() if part in known for figure in known[part](told)]


def show(found: Json) -> Json:
    """Prints the table and gives it, with `ok` for all of them."""
    told = figures(found)
    print(f"\n{'figure':62} {'wanted':>10} {'found':>10}")
    for one in told:
        mark = "" if one.ok else "  MISSED" + (" (timed)" if one.timed else "")
        print(f"{one.name:62} {one.wanted:>10} {one.found:10.3f}{mark}")
    return {"figures": [asdict(one) for one in told], "ok": all(one.ok for one in told)}


def _most(name: str, most: float, found: float, timed: bool = False) -> Figure:
    return Figure(name, f"<= {most:g}", found, found <= most, timed)


def _least(name: str, least: float, found: float, timed: bool = False) -> Figure:
    return Figure(name, f">= {least:g}", found, found >= least, timed)


def _models(told: Json) -> Iterator[Figure]:
    from tests.benchmarks.graph_models import BAD, COUNT

    rows, means = told["rows"], told["means"]
    if told["whole"]:
        yield Figure("real models", f"= {COUNT}", len(rows), len(rows) == COUNT)
        yield _most("nodes, geometric mean", 0.58, means["nodes"])
        yield _most("latency, geometric mean", 0.96, means["latency"], True)
        yield _most("session creation, geometric mean", 0.65, means["session"], True)
    yield _most("crashed or hung", 0, sum(row["verdict"] in BAD for row in rows))
    yield _most("bytes, largest", 1.01, means["bytes_most"])
    yield _most("latency, slowest", 1.02, means["latency_most"], True)
    for row in rows:
        name = f"nodes of {row['group']}/{row['model']}"
        if row["ours"] > row["best"]:
            yield _most(f"{name}, as other tools", row["best"], row["ours"])
        if row["bar"] is not None:
            yield _most(name, row["bar"], row["ours"])
    yield _most(
        "models on which another tool or chain has fewer nodes", 0, sum(row["ours"] > row["best"] for row in rows)
    )


def _nodes(told: Json) -> Iterator[Figure]:
    yield _most("wrong results on onnx's own models", 0, len(told["wrong"]))


def _hostile(told: Json) -> Iterator[Figure]:
    rows = told["rows"]
    yield _least("hostile files", 40, len(rows))
    yield _most("hostile files with another verdict", 0, told["other_verdicts"])
    yield _most("seconds of the slowest hostile file", 5, max(row["seconds"] for row in rows), True)
    yield _most("MB of the largest hostile file", 500, max(row["peak_bytes"] for row in rows) / 1e6)


def _chain(told: Json) -> Iterator[Figure]:
    yield _most("seconds of a chain of 20,000 nodes", 2, min(row["seconds"] for row in told["rows"]), True)


def _large(told: Json) -> Iterator[Figure]:
    yield _most("nodes of the large model", 72, told["ours"] if told["ours"] is not None else float("inf"))
    yield _most("seconds of the large model beyond copying", 5, told["seconds"], True)
    yield _most("MB of the large model", 300, told["peak_bytes"] / 1e6)


def _batch(told: Json) -> Iterator[Figure]:
    yield _least("batch: 2 CPUs beside 1", 1.7, told["speedup"], True)
    yield _least("batch: 2 CPUs beside a plain loop", 1, told["to_loop"], True)
