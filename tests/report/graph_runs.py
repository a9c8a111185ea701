"""The summary of a small `graph` run: one model of each way to end."""

from __future__ import annotations

from typing import Any


def row(name: str, verdict: str, **fields: Any) -> dict[str, Any]:
    """A model of 40 nodes and 1000 bytes as the summary has it, kept as it was unless `fields` say otherwise."""
    kept = {
        "id": f"{name}-0badcafe", "name": f"{name}.onnx", "verdict": verdict, "reason": "", "nodes_before": 40,
        "nodes_after": 40, "size_before": 1000, "size_after": 1000, "chain": [], "max_error": 0.0,
        "latency_ratio": None, "session_ratio": None, "unreached": [], "caught": [], "left": [], "path": None,
        "sha256": None, "fused": None, "seconds": 1.5,
    }  # fmt: skip
    return kept | fields


def summary() -> dict[str, Any]:
    small = row(
        "small", "optimized", nodes_after=10, size_after=900, chain=["own", "onnxslim"], latency_ratio=0.5,
        path="artifacts/small-0badcafe/small.onnx",
        caught=[{"tool": "onnxsim", "chain": ["own", "onnxsim"], "what": "wrong", "reason": "outputs differ"}],
        unreached=[{"node": "If_3", "seen": ["then"]}, {"node": "If_4", "seen": []}],
        fused={"nodes": 7, "size_bytes": 910, "ratio": 0.8, "way": "runtime", "sha256": "0" * 64,
               "path": "artifacts/small-0badcafe/small.fused.onnx"},
    )  # fmt: skip
    half = row("half", "optimized", nodes_after=20, latency_ratio=1.0, chain=["own"], path="artifacts/half/half.onnx")
    left = [{"tool": "own", "chain": ["own"], "what": "left", "reason": "slower to run: 1.100 of the original's time"}]
    same = row("same", "unchanged", reason="the best candidate was not taken", left=left)
    bomb = row("bomb", "fold_bomb", reason="folding it would make 4,096 bytes", nodes_before=None, nodes_after=None)
    return {
        "kind": "graph", "name": "batch", "status": "done", "seconds": 12.3, "job_hash": "abcd" * 16,
        "finished": "2026-01-02T03:04:05+00:00", "models": [small, half, same, bomb],
        "verdicts": {"optimized": 2, "unchanged": 1, "fold_bomb": 1}, "nodes_ratio": 0.5, "latency_ratio": 0.71,
        "cached_count": 1,
        "environment": {"cpu": "A processor", "cpus": 2, "timed_on": "here", "versions": {"onnx": "1.2.3"}},
    }  # fmt: skip
