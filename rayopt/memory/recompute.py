"""Activation checkpointing: what a block keeps for its backward pass is computed again there (Chen et al., 2016)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

LEAST_BLOCKS = 2


def recompute(module: nn.Module) -> list[str]:
    """Has the blocks of a module computed again in the backward pass, in place; gives their names.

    Blocks are the entries of the longest list or sequence in it; a sequence of single layers is taken in about as many
    runs as each run has layers. A module without either is one block.
    """
    lists = [(name, part) for name, part in module.named_modules() if isinstance(part, nn.Sequential | nn.ModuleList)]
    found = max(lists, key=lambda one: len(one[1]), default=None)
    if found is None or len(found[1]) < LEAST_BLOCKS:
        module.forward = _again(module.forward)
        return [""]
    name, blocks = found
    if isinstance(blocks, nn.Sequential) and all(next(block.children(), None) is None for block in blocks):
        return _in_runs(name, blocks)
    wrapped = []
    for key, block in blocks.named_children():
        if next(block.parameters(), None) is not None:
            block.forward = _again(block.forward)
            wrapped.append(f"{name}.{key}" if name else key)
    return wrapped


def _in_runs(name: str, layers: nn.Sequential) -> list[str]:
    length = math.ceil(math.sqrt(len(layers)))
    parts = list(layers)
    runs = [parts[start : start + length] for start in range(0, len(parts), length)]

    def forward(given: Any) -> Any:
        for run in runs:
            given = _again(_chain(run))(given)
        return given

    layers.forward = forward  # type: ignore[method-assign]
    return [f"{name}[{start}:{start + length}]" for start in range(0, len(parts), length)]


def _chain(layers: Sequence[nn.Module]) -> Callable[[Any], Any]:
    def run(given: Any) -> Any:
        for layer in layers:
            given = layer(given)
        return given

    return run


def _again(forward: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return wrapped
