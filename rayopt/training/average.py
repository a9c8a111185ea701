"""An exponential moving average of a model's state (Polyak and Juditsky, 1992; as in Tarvainen and Valpola, 2017)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Average:
    """Follows the floating point state of a module; whole numbers, such as counts of batches, are the module's own."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._own = {name: one for name, one in module.state_dict(keep_vars=True).items() if one.is_floating_point()}
        self._own = {name: one.detach() for name, one in self._own.items()}
        self._kept = {name: one.clone() for name, one in self._own.items()}
        self._count = 0

    def follow(self) -> None:
        """To be called after each step; early on it follows faster, as there is little to average yet."""
        self._count += 1
        decay = min(self._decay, (1 + self._count) / (10 + self._count))
        with torch.no_grad():
            torch._foreach_lerp_(list(self._kept.values()), list(self._own.values()), 1 - decay)

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """The average in the module's place."""
        mine = {name: one.clone() for name, one in self._own.items()}
        self._fill(self._kept)
        try:
            yield
        finally:
            self._fill(mine)

    def _fill(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in state.items():
                self._own[name].copy_(tensor)

    def state(self) -> tuple[dict[str, Tensor], int]:
        return dict(self._kept), self._count

    def load(self, kept: dict[str, Tensor], count: int) -> None:
        with torch.no_grad():
            for name, tensor in kept.items():
                self._kept[name].copy_(tensor)
        self._count = count
