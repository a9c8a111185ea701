"""One model from a file to its verdict: the work in a child, taken up again without what it died of."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rayopt.graph.child import MIB, Limits, Reply, call
from rayopt.graph.order import AGAIN, Order
from rayopt.graph.verdicts import Refusal

ALL_TOOLS = ("own", "onnxslim", "ort_basic", "onnxscript", "onnxoptimizer", "onnxsim")
MAX_DEATHS = 12
MODEL, FUSED = "model.onnx", "model.fused.onnx"  # portable; in the runtime's own operators, for this machine


@dataclass(frozen=True)
class Outcome:
    """What became of one model. `files`: the optimised model, where there is one. `told`: all about it, JSON-able.

    seconds, cpu_s, peak_bytes: what the children took; they differ from run to run and are in no hash.
    """

    verdict: str
    reason: str
    told: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0


def optimize_file(path: Path, order: Order | None = None, limits: Limits | None = None) -> Outcome:
    """The verdict on a model file, whatever is in it; never raises for what the file is."""
    size = _size(path)
    limits = limits or limits_for(size)
    suits = limits == limits_for(size)
    with tempfile.TemporaryDirectory(prefix="rayopt-") as folder:
        order = order or Order("", "", ALL_TOOLS)
        order = replace(order, path=str(path.absolute()), folder=folder, size_bytes=size)
        known: dict[str, dict[str, Any]] = {}
        used = (0.0, 0.0, 0)
        for _ in range(MAX_DEATHS):
            reply = call("rayopt.graph.working:optimize", {"order": asdict(order), "known": known}, limits)
            used = (used[0] + reply.seconds, used[1] + reply.cpu_s, max(used[2], reply.peak_bytes))
            if not reply.died:
                told = dict(reply.returned)
                if told["verdict"] == AGAIN:
                    order = replace(order, size_bytes=told["size_bytes"])
                    limits = limits_for(order.size_bytes) if suits else limits
                    continue
                files = _files(Path(folder), told)
                return Outcome(told.pop("verdict"), told.pop("reason"), told, files, *used)
            under_way = _learn(known, reply)
            if under_way in ("", "gate", "original"):
                return Outcome(_verdict(under_way, reply.died), _words(under_way, reply.died), {}, {}, *used)
            known[under_way] = {"failed": reply.died}
    return Outcome("crashed", "its tools died too often", {}, {}, *used)


def _files(folder: Path, told: Mapping[str, Any]) -> dict[str, bytes]:
    """What the work has made, by the names of the portable model and of the one for this machine."""
    files = {MODEL: (folder / told["sha256"]).read_bytes()} if "sha256" in told else {}
    if told.get("fused"):
        files[FUSED] = (folder / told["fused"]["sha256"]).read_bytes()
    return files


def limits_for(size_bytes: int) -> Limits:
    """What the work on a file of so many bytes may take: what a few bytes need to ask for more than that is hostile."""
    memory = 256 * MIB + min(64 * size_bytes, 1536 * MIB) + 24 * size_bytes
    return Limits(memory_bytes=memory, cpu_s=3, wall_s=60 + size_bytes / MIB)


def _learn(known: dict[str, dict[str, Any]], reply: Reply) -> str:
    """Takes what the child has told into `known`, and gives the step that it was at when it died."""
    under_way = ""
    for line in reply.lines:
        if "step" in line:
            under_way = line["step"]
        elif "done" in line:
            under_way = ""
            if line["value"] is not None:
                known[line["done"]] = {"value": line["value"]}
        elif "failed" in line:
            under_way = ""
            known[line["failed"]] = {"failed": line["reason"], "verdict": line["verdict"]}
    return under_way


def _verdict(step: str, died: str) -> Refusal:
    if "did not end" in died:
        return "does_not_run" if step == "original" else "out_of_time"
    if "MemoryError" in died or "bad_alloc" in died:
        return "does_not_run" if step == "original" else "out_of_memory"
    return "does_not_run" if step == "original" else "crashed"


def _words(step: str, died: str) -> str:
    where = {"gate": "while it was checked", "original": "while the original was run"}.get(step, "")
    return f"{died} {where}".strip()


def _size(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return path.stat().st_size
    return 0
