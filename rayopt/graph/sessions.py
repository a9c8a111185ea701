"""Models as sessions of ONNX Runtime on one thread, and what running them gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rayopt.errors import StepError
from rayopt.graph.verdicts import Refused

Outputs = list[Any]


def open_session(content: bytes | str, optimize: bool = False, written_to: Path | None = None) -> Any:
    """A session on one thread, without the memory arena that grows by doubling; raises Refused.

    written_to: where the graph goes that the runtime made of the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = optimize
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    if written_to is not None:
        options.optimized_model_filepath = str(written_to)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise Refused("does_not_load", f"ONNX Runtime does not load it: {_first(error)}") from error


def run(running: Any, fed: Mapping[str, Any]) -> Outputs:
    """All outputs; raises StepError where the runtime fails."""
    try:
        return list(running.run(None, dict(fed)))
    except Exception as error:
        raise StepError(f"ONNX Runtime does not run it: {_first(error)}") from error


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
