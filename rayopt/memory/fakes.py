"""Copies of modules and tensors without data, for tracing."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

M = TypeVar("M", bound=nn.Module)


def fake_copy(module: M, fakes: FakeTensorMode) -> M:
    """The same module with parameters and buffers that have no data; tied ones stay tied."""
    memo: dict[int, Tensor] = {}
    for part in module.modules():
        for tensor in (*part._parameters.values(), *part._buffers.values()):
            if tensor is not None and id(tensor) not in memo:
                memo[id(tensor)] = fakes.from_tensor(tensor)
    return copy.deepcopy(module, dict[int, object](memo))
