"""The graph optimizer's own passes, ADD ONE FILE: rewrites that are exact, in standard operators only.

A pass is a module with `opset`, the least opset of what it writes (0: any), `dims`, whether it asks for the sizes of
values, `needs`, operators of which one must occur for it to find anything (none: any will do), and
`apply(model, limits) -> int`, which rewrites in place and gives how often. ORDER says in which order they run; a pass
that is not in it runs last.
"""

from __future__ import annotations

import gc
import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx
import onnx_ir as ir

from rayopt.graph.passes import facts, inference, scopes, upgrade
from rayopt.graph.structure import nested

# RMSNormalization and Attention. The runtime has no kernels for Swish (24) and GroupNormalization (21): they take
# 2 to 3 and 2 to 18 times as long as what they would stand for.
TARGET_OPSET = 23
OLDEST = 13  # the forms of operators that passes expect: axes are inputs
ROUNDS = 12
UPGRADE = "upgrade"  # beside the names of passes: whether operators may be raised to a newer opset
NOT_PASSES = {  # what passes share
    "affine", "facts", "inference", "layout", "match", "propagation", "rewrite", "scopes", "symbolic",
    "upgrade",
}  # fmt: skip
ORDER = (
    "dead_code", "identity", "idempotent", "no_op", "constant_if", "deduplicate", "fold_constants",
    "common_subexpression", "failing_branch", "zero_state", "zero_times", "shape_arithmetic", "no_op_shape",
    "drop_expand", "merge_reshape", "merge_transpose", "merge_layout", "linear_layout", "split_layout",
    "merge_cast", "merge_clip", "merge_concat", "reduce_square", "split_slices", "layer_norm", "rms_norm",
    "softmax", "gelu", "hard_swish", "mish", "channel_shuffle", "affine_after", "affine_before", "pad_into_conv",
    "gemm", "attention",
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
    passes = {name: _module(name) for name in names}
    counts = dict.fromkeys(names, 0)
    with _quiet_collector():
        for _ in range(ROUNDS):
            before = sum(counts.values())
            _round(model, passes, counts, limits)
            if sum(counts.values()) == before:
                break
        facts.settle(model)
    return counts


def _round(model: ir.Model, passes: dict[str, Any], counts: dict[str, int], limits: Limits) -> None:
    """Each pass once; sizes are inferred once, before the first pass that asks for them."""
    inferred = False
    present = facts.operators(model)
    for name, module in passes.items():
        if module.opset > facts.opset(model) or (module.needs and present.isdisjoint(module.needs)):
            continue
        if module.dims and not inferred:
            inference.infer(model)
            inferred = True
        found = module.apply(model, limits)
        if found:
            counts[name] += found
            present = facts.operators(model)


def optimize_bytes(
    content: bytes, chosen: Sequence[str] | None = None, limits: Limits | None = None
) -> tuple[bytes, dict[str, int]]:
    """One ONNX file's bytes after the passes, and how often each rewrote; `content` itself where none did.

    UPGRADE among the chosen raises the operators first, where that does not cost more nodes than it saves.
    """
    limits = limits or Limits(fold_bytes=max(1 << 12, len(content) // 200))
    chosen = [UPGRADE, *names()] if chosen is None else chosen
    passes = [name for name in chosen if name != UPGRADE]
    with _quiet_collector():
        proto = onnx.load_model_from_string(content)
        if any(map(_is_sparse, _graphs(proto.graph))):
            return content, {}
        wanted = _opset(proto, passes, limits.target_opset) if UPGRADE in chosen else 0
        raised = upgrade.raised(proto, wanted)
        model = _read(raised)
        counts = run(model, passes, limits)
        if raised is not proto and _count(facts.nodes(model)) >= _count(
            node for graph in _graphs(proto.graph) for node in graph.node
        ):
            model = _read(proto)
            counts = run(model, passes, limits)
        return (written(model) if any(counts.values()) else content), counts


def _is_sparse(graph: Any) -> bool:
    """Whether a graph stores sparse tensors: onnx_ir would lose its initializers and does not read its constants."""
    if graph.sparse_initializer:
        return True
    constants = (node for node in graph.node if node.op_type == "Constant")
    return any(one.HasField("sparse_tensor") for node in constants for one in node.attribute)


def _read(proto: Any) -> ir.Model:
    model: ir.Model = ir.from_proto(proto)
    scopes.distinct(model)
    return model


def _count(nodes: Iterable[Any]) -> int:
    return sum(node.op_type != "Constant" for node in nodes)


def _opset(proto: Any, chosen: Sequence[str], highest: int) -> int:
    """The opset that the passes need which could find something: a newer one than that has no use."""
    present = {node.op_type for graph in _graphs(proto.graph) for node in graph.node}
    modules = [_module(name) for name in chosen]
    wanted = [one.opset for one in modules if not one.needs or not present.isdisjoint(one.needs)]
    return int(min(highest, max([OLDEST, *wanted])))


def _graphs(graph: Any) -> Iterator[Any]:
    waiting = [graph]
    while waiting:
        one = waiting.pop()
        yield one
        waiting.extend(body for node in one.node if node.attribute for body in nested(node))


def _module(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{name}")


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


__all__ = ["UPGRADE", "Any", "Limits", "names", "optimize_bytes", "run", "written"]
