"""Tools one after another; each result is kept only if it is proven equal, no larger, and has fewer nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rayopt.data.rows import Rows
from rayopt.errors import StepError
from rayopt.graph.child import run_tool
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
