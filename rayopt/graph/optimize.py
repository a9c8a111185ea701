"""Tools one after another; each result is kept only if it is proven equal, no larger, and has fewer nodes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rayopt.data.rows import Rows
from rayopt.errors import StepError
from rayopt.graph.child import MIB, Limits, call
from rayopt.graph.verify import probes, same_outputs
from rayopt.models.onnx_model import MODEL, from_proto, node_count, to_proto
from rayopt.records import Artifact


def optimize(model: Artifact, tools: Sequence[str], rows: Rows, seed: int) -> Artifact:
    """The model after the tools that helped; its notes tell what each tool did. `rows` are inputs to verify on."""
    before = from_proto(to_proto(model))
    inputs = probes(rows, seed)
    best, nodes = before, node_count(to_proto(before))
    record: list[dict[str, Any]] = []
    for tool in tools:
        try:
            after = Artifact("onnx", {MODEL: run_tool(tool, best.files[MODEL])})
            count = node_count(to_proto(after))
            error = same_outputs(before, after, inputs)
        except StepError as failure:
            record.append({"tool": tool, "kept": False, "reason": str(failure)})
            continue
        kept = count < nodes and after.size_bytes <= 1.01 * before.size_bytes
        record.append({"tool": tool, "kept": kept, "nodes_before": nodes, "nodes_after": count, "max_error": error})
        if kept:
            best, nodes = after, count
    if best is before:
        return Artifact("onnx", model.files, {"tools": record, "unchanged": True})
    return Artifact("onnx", best.files, {"tools": record, "nodes": nodes})


def run_tool(tool: str, content: bytes, memory_bytes: int = 0, seconds: float = 120) -> bytes:
    """The model (one ONNX file's bytes) as `tool` leaves it; raises StepError when the tool fails in any way.

    tool: one of `rayopt.graph.tools`, or a `package.module:function` of two paths. memory_bytes: 0 for what suits.
    """
    memory = memory_bytes or 2048 * MIB + 16 * len(content)
    with tempfile.TemporaryDirectory(prefix="rayopt-") as folder:
        before, after = Path(folder) / "in.onnx", Path(folder) / "out.onnx"
        before.write_bytes(content)
        argument = {"tool": tool, "before": str(before), "after": str(after)}
        reply = call("rayopt.graph.tools:apply", argument, Limits(memory, cpu_s=seconds, wall_s=seconds))
        if reply.died:
            says = reply.died if reply.died.startswith(("died", "did not end")) else f"failed: {reply.died}"
            raise StepError(f"{tool} {says.rstrip(': ')}")
        if not after.is_file():
            raise StepError(f"{tool} failed: it wrote no model")
        return after.read_bytes()
