"""The graph optimizer's own passes, ADD ONE FILE: rewrites that are exact, in standard operators only.

A pass is a module with `opset`, the least opset of what it writes (0: any), `dims`, whether it asks for the sizes of
values, and `apply(model, limits) -> int`, which rewrites in place and gives how often. ORDER says in which order they
run; a pass that is not in it runs last.
"""

from __future__ import annotations

import gc
import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx
import onnx_ir as ir

from rayopt.graph.passes import facts, inference

TARGET_OPSET = 23  # the newest whose operators the runtime has fast kernels for: Attention; Swish (24) has none
ROUNDS = 12
NOT_PASSES = {"affine", "facts", "inference", "match", "propagation", "rewrite", "symbolic", "upgrade"}
ORDER = (
    "dead_code", "identity", "no_op", "constant_if", "deduplicate", "fold_constants", "common_subexpression",
    "failing_branch", "zero_state", "shape_arithmetic", "no_op_shape", "drop_expand", "merge_reshape",
    "merge_transpose", "merge_cast", "merge_clip", "merge_concat", "merge_conv", "unstack", "reduce_square",
    "split_slices",     "layer_norm", "rms_norm", "softmax", "gelu", "hard_swish", "swish", "mish", "channel_shuffle", "affine_after", "affine_before", "pad_into_conv", "gemm", "attention",
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What passes may write: operators of opset `target_opset` at most; folding may add `fold_bytes` to the file."""

    target_opset: int = TARGET_OPSET
    fold_bytes: int = 1 << 16
    memory_bytes: int = 1 << 30  # the most that folding may hold at a time


def names() -> list[str]:
    """Every pass, in the order in which they run."""
    found = {one.name for one in pkgutil.iter_modules(__path__)} - NOT_PASSES
    return [name for name in ORDER if name in found] + sorted(found - set(ORDER))


def run(model: ir.Model, names: Sequence[str], limits: Limits) -> dict[str, int]:
    """Runs the passes in turns until none finds anything, ROUNDS times at most; gives how often each rewrote."""
    passes = {name: importlib.import_module(f"{__name__}.{name}") for name in names}
    counts = dict.fromkeys(names, 0)
    with _quiet_collector():
        for _ in range(ROUNDS):
            before = sum(counts.values())
            fresh = False
            for name, module in passes.items():
                if module.opset <= facts.opset(model):
                    if module.dims and not fresh:
                        inference.infer(model)
                        fresh = True
                    counts[name] += module.apply(model, limits)
            if sum(counts.values()) == before:
                break
        facts.settle(model)
    return counts


def optimize_bytes(
    content: bytes, names_: Sequence[str] | None = None, limits: Limits | None = None
) -> tuple[bytes, dict[str, int]]:
    """One ONNX file's bytes after the passes, and how often each rewrote; `content` itself where none did."""
    from rayopt.graph.passes import upgrade

    limits = limits or Limits(fold_bytes=max(1 << 12, len(content) // 200))
    with _quiet_collector():
        proto = upgrade.raised(onnx.load_model_from_string(content), limits.target_opset)
        model = ir.from_proto(proto)
        counts = run(model, names() if names_ is None else names_, limits)
        if not any(counts.values()):
            return content, counts
        return written(model), counts


def written(model: ir.Model) -> bytes:
    """A model's bytes, the same each time."""
    return bytes(ir.to_proto(model).SerializeToString(deterministic=True))


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """A graph is millions of small objects that stay: to look for garbage among them takes longer than the passes."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


__all__ = ["Any", "Limits", "names", "optimize_bytes", "run", "written"]
