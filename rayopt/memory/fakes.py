"""Copies of modules without data, for tracing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)
Change = Callable[[Tensor], Tensor]


def fake_copy(module: M) -> M:
    """The same module with parameters and buffers that have no data; tied ones stay tied. To be called in a trace."""
    memo: dict[int, Tensor] = {}
    for part in module.modules():
        for tensor in (*part._parameters.values(), *part._buffers.values()):
            if tensor is not None and id(tensor) not in memo:
                memo[id(tensor)] = _fake(tensor)
    copied = copy.deepcopy(module, dict[int, object](memo))
    for part in copied.modules():
        part._apply = partial(_apply, part)  # type: ignore[method-assign]
    return copied


def _fake(tensor: Tensor) -> Tensor:
    empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _apply(module: nn.Module, change: Change, recurse: bool = True) -> nn.Module:
    """What `module.to` does, by new parameters: torch swaps the insides of such tensors, which their traces forbid."""
    changed: dict[int, Tensor] = {}
    for part in module.modules():
        for own in (part._parameters, part._buffers):
            for name, tensor in own.items():
                if tensor is not None:
                    own[name] = changed.setdefault(id(tensor), _changed(tensor, change))  # type: ignore[assignment]
    return module


def _changed(tensor: Tensor, change: Change) -> Tensor:
    with torch.no_grad():
        made = change(tensor)
    if made is tensor:
        return tensor
    return nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made
