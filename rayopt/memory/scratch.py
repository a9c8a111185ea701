"""What operators take for themselves while they run, which no trace of their outputs shows.

oneDNN copies a convolution's images and weights into its own layout, products of bf16 are packed, types are promoted,
recurrent layers keep a workspace, cuDNN takes one as well. How much depends on sizes, types, threads and the processor,
by rules that are nobody's promise; so it is measured: each operator that a trace met is run once by itself, on zeros
and for few rows, and the allocator tells. What was measured is remembered while the process lives.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from rayopt.memory.allocator import changes_of
from rayopt.memory.trace import Call, Shape

LIMIT_BYTES = 512 << 20
# In place over lists of parameters: nothing inside, and much to run. Workspaces of others' making: zeros are none.
SKIPPED = ("_foreach_", "_fused_", "_cudnn", "miopen", "empty", "zeros", "ones")
log = logging.getLogger(__name__)
aten = torch.ops.aten
Changes = tuple[int, ...]
_MEASURED: dict[str, Changes] = {}


def scratch(calls: Sequence[Call], device: torch.device) -> list[Changes]:
    """For each call every change of the allocated bytes that it makes, its outputs' among them.

    Nothing for what cannot be run by itself or is given more than LIMIT_BYTES: the trace has its outputs anyway.
    """
    keys = [f"{torch.get_num_threads()} {call.function} {call.args} {call.kwargs}" for call in calls]
    works: dict[str, Callable[[], Any]] = {}
    for key, call in zip(keys, calls, strict=True):
        if key not in _MEASURED:
            _MEASURED[key] = ()
            work = _work(call, device)
            if work is not None:
                works[key] = work
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):  # recurrent layers keep a workspace only then
        _MEASURED.update(zip(works, changes_of(list(works.values()), device), strict=True))
    return [_MEASURED[key] for key in keys]


def _work(call: Call, device: torch.device) -> Callable[[], Callable[[], Any]] | None:
    """Makes the call's arguments, and then what runs it; None where it is not to be run."""
    name = call.function.__name__
    if call.function.namespace != "aten" or name.startswith(SKIPPED) or _given_bytes(call) > LIMIT_BYTES:
        return None

    def ready() -> Callable[[], Any]:
        args, kwargs = _zeros((call.args, call.kwargs), device)
        if call.function is aten.mkldnn_rnn_layer_backward.default:
            args = _with_workspace(args)
        return lambda: call.function(*args, **kwargs)

    return ready


def _given_bytes(call: Call) -> int:
    leaves = tree_leaves((call.args, call.kwargs), is_leaf=_is_shape)
    return sum(_length(leaf) * leaf.dtype.itemsize for leaf in leaves if isinstance(leaf, Shape))


def _zeros(tree: Any, device: torch.device) -> Any:
    def made(leaf: Any) -> Any:
        if isinstance(leaf, Shape):
            return torch.zeros(_length(leaf), dtype=leaf.dtype, device=device).as_strided(leaf.size, leaf.stride)
        return leaf

    return tree_map(made, tree, is_leaf=_is_shape)


def _with_workspace(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a recurrent layer's backward with what its forward leaves for it: a trace does not know."""
    given, hidden, cell = args[0], args[5], args[6]
    reverse, mode, size, layers, biases, train, both, sizes, first = args[13:22]
    outs = aten.mkldnn_rnn_layer.default(
        given, *args[1:5], hidden, cell, reverse, sizes, mode, size, layers, biases, both, first, train
    )
    return (*args[:22], outs[-1])


def _is_shape(leaf: Any) -> bool:
    return isinstance(leaf, Shape)


def _length(shape: Shape) -> int:
    if 0 in shape.size:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(shape.size, shape.stride, strict=True))
