"""The graph tools that a portfolio is made of, each as a function from bytes to bytes; they run in a child process.

None is trusted: each may crash, hang, or give a wrong model, and what it gives is verified.
"""

from __future__ import annotations

import importlib.metadata
import io
import pkgutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

# onnxoptimizer's passes that only remove or merge; its default list also rewrites and can make models larger.
ONNXOPTIMIZER_PASSES = (
    "extract_constant_to_initializer", "eliminate_identity", "eliminate_nop_cast", "eliminate_nop_dropout",
    "eliminate_nop_flatten", "eliminate_nop_pad", "eliminate_nop_reshape", "eliminate_nop_concat",
    "eliminate_nop_split", "eliminate_nop_expand", "eliminate_nop_transpose", "eliminate_duplicate_initializer",
    "eliminate_common_subexpression", "fuse_consecutive_transposes", "fuse_consecutive_squeezes",
    "fuse_consecutive_unsqueezes", "fuse_transpose_into_gemm", "fuse_bn_into_conv", "eliminate_nop_transpose",
    "eliminate_deadend", "eliminate_unused_initializer",
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What tools are told: the newest operator set that may be used, and the bytes that folding may make.

    `without`: own passes that are left out of this model, since what they gave was wrong.
    """

    target_opset: int = 23
    fold_bytes: int = 1 << 16
    without: tuple[str, ...] = ()


def onnxoptimizer(content: bytes, setting: Setting) -> bytes:
    import onnx
    import onnxoptimizer as tool

    known = set(tool.get_available_passes())
    model = tool.optimize(
        onnx.ModelProto.FromString(content), [name for name in ONNXOPTIMIZER_PASSES if name in known], fixed_point=True
    )
    return bytes(model.SerializeToString(deterministic=True))


def onnxscript(content: bytes, setting: Setting) -> bytes:
    import onnx
    import onnx_ir as ir
    from onnxscript import optimizer, rewriter

    model = ir.from_proto(onnx.ModelProto.FromString(content))
    optimizer.optimize(model)
    rewriter.rewrite(model)
    return bytes(ir.to_proto(model).SerializeToString(deterministic=True))


def onnxslim(content: bytes, setting: Setting) -> bytes:
    import onnx
    import onnxslim as tool

    with redirect_stdout(io.StringIO()):
        model = tool.slim(onnx.ModelProto.FromString(content), no_shape_infer=False)
    return bytes(model.SerializeToString(deterministic=True))


def onnxsim(content: bytes, setting: Setting) -> bytes:
    import onnx
    import onnxsim as tool

    model, _ = tool.simplify(onnx.ModelProto.FromString(content), check_n=0)
    return bytes(model.SerializeToString(deterministic=True))


def ort_basic(content: bytes, setting: Setting) -> bytes:
    """ONNX Runtime's BASIC level: constant folding and removals in standard operators only.

    It declares every operator set that it knows; a portable file declares those that it uses.
    """
    import onnx
    import onnxruntime

    from rayopt.graph.face import drop_unused_opsets

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory(prefix="rayopt-") as folder:
        after = Path(folder) / "after.onnx"
        options.optimized_model_filepath = str(after)
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        model = onnx.ModelProto.FromString(after.read_bytes())
    drop_unused_opsets(model)
    return bytes(model.SerializeToString(deterministic=True))


def own(content: bytes, setting: Setting) -> bytes:
    """The passes of this room, to a fixed point, up to the newest operator set that may be used."""
    from rayopt.graph import passes

    limits = passes.Limits(target_opset=setting.target_opset, fold_bytes=setting.fold_bytes)
    return passes.optimize_bytes(content, [name for name in own_names() if name not in setting.without], limits)[0]


def own_names() -> list[str]:
    """What `own` consists of and may be left out: raising the operator set, and each pass."""
    from rayopt.graph import passes

    return [passes.UPGRADE, *passes.names()]


TOOLS: dict[str, Callable[[bytes, Setting], bytes]] = {
    "own": own,
    "onnxoptimizer": onnxoptimizer,
    "ort_basic": ort_basic,
    "onnxscript": onnxscript,
    "onnxslim": onnxslim,
    "onnxsim": onnxsim,
}
PACKAGES = {"own": "rayopt", "ort_basic": "onnxruntime"}


@lru_cache(maxsize=1)
def installed() -> Mapping[str, str]:
    """The versions of the tools that are there, by tool; asking for them takes as long as a small model does."""
    found: dict[str, str] = {}
    for name in TOOLS:
        try:
            found[name] = importlib.metadata.version(PACKAGES.get(name, name))
        except importlib.metadata.PackageNotFoundError:
            continue
    return MappingProxyType(found)


def run(name: str, content: bytes, setting: Setting) -> bytes:
    """What a tool makes of a model; a `package.module:function` is called as those here are."""
    function = pkgutil.resolve_name(name) if ":" in name else TOOLS[name]
    return bytes(function(content, setting))


def apply(argument: dict[str, str], tell: object) -> None:
    """A tool on a file, into another; `package.module:function` (of two paths) names one of somebody else's."""
    name, before, after = argument["tool"], argument["before"], argument["after"]
    if ":" in name:
        pkgutil.resolve_name(name)(before, after)
        return
    content = Path(before).read_bytes()
    Path(after).write_bytes(run(name, content, Setting(fold_bytes=max(1 << 12, len(content) // 200))))
