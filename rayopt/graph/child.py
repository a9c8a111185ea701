"""Runs one graph tool in a child process with limits on memory and time: a tool may crash, hang or eat memory.

As a program: `python -m rayopt.graph.child TOOL IN.onnx OUT.onnx MEMORY_BYTES`. A tool is one of TOOLS, or a
`package.module:function` of two paths.
"""

from __future__ import annotations

import ctypes
import pkgutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from rayopt.errors import StepError

MEMORY_BYTES = 8 << 30
SECONDS = 120

# onnxoptimizer's passes that only ever remove or merge; its default list also rewrites and can make models larger.
PASSES = (
    "extract_constant_to_initializer", "eliminate_identity", "eliminate_nop_cast", "eliminate_nop_dropout",
    "eliminate_nop_flatten", "eliminate_nop_pad", "eliminate_nop_reshape", "eliminate_nop_concat",
    "eliminate_nop_split", "eliminate_nop_expand", "eliminate_nop_transpose", "eliminate_duplicate_initializer",
    "eliminate_common_subexpression", "fuse_consecutive_transposes", "fuse_consecutive_squeezes",
    "fuse_consecutive_unsqueezes", "fuse_transpose_into_gemm", "eliminate_nop_transpose", "eliminate_deadend",
    "eliminate_unused_initializer",
)  # fmt: skip


def run_tool(tool: str, content: bytes, memory_bytes: int = MEMORY_BYTES, seconds: float = SECONDS) -> bytes:
    """The model (one ONNX file's bytes) as `tool` leaves it; raises StepError when the tool fails in any way."""
    with tempfile.TemporaryDirectory(prefix="rayopt-") as folder:
        before, after = Path(folder) / "in.onnx", Path(folder) / "out.onnx"
        before.write_bytes(content)
        command = [sys.executable, "-m", "rayopt.graph.child", tool, str(before), str(after), str(memory_bytes)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired as error:
            raise StepError(f"{tool} did not end within {seconds:g} s") from error
        if done.returncode < 0:
            raise StepError(f"{tool} died by {signal.Signals(-done.returncode).name}")
        if done.returncode:
            last = done.stderr.decode(errors="replace").strip().splitlines()
            raise StepError(f"{tool} failed: {last[-1] if last else f'exit code {done.returncode}'}")
        if not after.is_file():
            raise StepError(f"{tool} failed: it wrote no model")
        return after.read_bytes()


def onnxoptimizer_tool(before: str, after: str) -> None:
    import onnx
    import onnxoptimizer

    known = set(onnxoptimizer.get_available_passes())
    model = onnxoptimizer.optimize(onnx.load(before), [name for name in PASSES if name in known], fixed_point=True)
    onnx.save(model, after)


def ort_basic_tool(before: str, after: str) -> None:
    """ONNX Runtime's BASIC level: constant folding and removals in standard operators only."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = after
    onnxruntime.InferenceSession(before, options, providers=["CPUExecutionProvider"])
    _drop_unused_domains(after)


def _drop_unused_domains(path: str) -> None:
    """The runtime declares every operator set that it knows; a portable file declares those that it uses."""
    import onnx

    model = onnx.load(path)
    used = {node.domain for node in model.graph.node} | {""}
    nested = any(
        attribute.HasField("g") or attribute.graphs for node in model.graph.node for attribute in node.attribute
    )
    if not nested and not model.functions:
        kept = [opset for opset in model.opset_import if opset.domain in used]
        del model.opset_import[:]
        model.opset_import.extend(kept)
        onnx.save(model, path)


TOOLS = {"onnxoptimizer": onnxoptimizer_tool, "ort_basic": ort_basic_tool}


def _limit(memory_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits; time is limited all the same
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: who kills our parent must not leave us behind
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    _limit(int(sys.argv[4]))
    named = sys.argv[1]
    run = pkgutil.resolve_name(named) if ":" in named else TOOLS[named]
    run(sys.argv[2], sys.argv[3])
